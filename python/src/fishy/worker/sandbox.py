"""What is taken from this process before it runs code that came with a model."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from pathlib import Path

CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

LIMITS = {
    "memory_bytes": resource.RLIMIT_AS,
    "files": resource.RLIMIT_NOFILE,
    "file_bytes": resource.RLIMIT_FSIZE,
}

# The kernel's name of the architecture, and its number of the call `socket`.
ARCHITECTURES = {"x86_64": (0xC000_003E, 41), "aarch64": (0xC000_00B7, 198)}
IO_URING_SETUP = 425
X32_CALLS = 0x4000_0000
AF_UNIX = 1
EACCES = 13
MAX_WORDS = 1000


def restrict(limits: dict[str, int], *, is_network_open: bool) -> str:
    """Sets the limits and closes the network; tells how: `open`, `namespace` or `filter`."""
    for name, limit in limits.items():
        _, most = resource.getrlimit(LIMITS[name])
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(LIMITS[name], (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if is_network_open:
        return "open"
    if sys.platform != "linux":
        raise OSError("the network can be closed on Linux only: allow it (allow_network), or serve this elsewhere")
    libc = ctypes.CDLL(None, use_errno=True)
    _call(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    if enter_empty_network(libc):
        return "namespace"
    filter_sockets(libc)
    return "filter"


def enter_empty_network(libc: ctypes.CDLL) -> bool:
    """A network namespace of its own, in which nothing is; `False` where that is not allowed."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0:
        # The same names outside and inside, so that files belong to whom they belonged before.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        return True
    # Without user namespaces, who is root may still have one of the network.
    return bool(libc.unshare(CLONE_NEWNET) == 0)


def filter_sockets(libc: ctypes.CDLL) -> None:
    """Makes the kernel refuse sockets but for those of this machine's files, to this process and all it starts."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise OSError(f"the network can be closed neither by a namespace nor, on {machine}, by a filter")
    arch, socket_call = ARCHITECTURES[machine]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse, kill = 0x7FFF_0000, 0x0005_0000 | EACCES, 0x8000_0000
    program = [
        (load, 0, 0, 4),  # which architecture
        (equal, 1, 0, arch),
        (answer, 0, 0, kill),
        (load, 0, 0, 0),  # which call
        (at_least, 5, 0, X32_CALLS),
        (equal, 4, 0, IO_URING_SETUP),
        (equal, 1, 0, socket_call),
        (answer, 0, 0, allow),
        (load, 0, 0, 16),  # which family of addresses
        (equal, 1, 0, AF_UNIX),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filters = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    _call(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filters, 0, 0), "seccomp")


def limit_processor(seconds: int) -> None:
    """From now on this process may use so many seconds of a processor, and is killed when it uses more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def in_words(error: BaseException) -> str:
    """An error on one line."""
    text = " ".join(str(error).split())[:MAX_WORDS]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _call(result: int, name: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
