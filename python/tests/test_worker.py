"""The worker program: what it gives up, and what it makes of tensors."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fishy.worker import model, program, sandbox
from fishy.worker.channel import Channel

SOURCE = Path(__file__).parents[1] / "src"


def in_a_process(code: str) -> str:
    """What a program prints; restrictions are for ever."""
    start = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r})\nimport ctypes, socket\nfrom fishy.worker import sandbox\n"
    )
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


TRY = """
def attempt(family, address):
    try:
        with socket.socket(family) as one:
            one.settimeout(5)
            one.connect(address)
        return "reached"
    except OSError as error:
        return type(error).__name__
"""


def test_the_network_is_closed_by_a_namespace_or_by_a_filter() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        ask = f"print(attempt(socket.AF_INET, {address!r}))"
        assert in_a_process(TRY + ask) == "reached"
        closed = "how = sandbox.restrict({}, is_network_open=False)\n"
        said = in_a_process(TRY + closed + f"print(how); {ask}").split()
        assert said[0] in ("namespace", "filter")
        assert said[1] != "reached"
        open_ = "print(sandbox.restrict({}, is_network_open=True))\n"
        assert in_a_process(TRY + open_ + ask).split() == ["open", "reached"]


def test_where_there_is_no_namespace_a_filter_leaves_files_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as beside:
        beside.bind(path)
        beside.listen()
        closed = (
            "libc = ctypes.CDLL(None, use_errno=True)\nlibc.prctl(38, 1, 0, 0, 0)\nsandbox.filter_sockets(libc)\n"
            f"print(attempt(socket.AF_INET, {server.getsockname()!r}))\n"
            f"print(attempt(socket.AF_INET6, ('::1', 1)))\n"
            f"print(attempt(socket.AF_UNIX, {path!r}))\n"
            "import subprocess\n"
            "code = 'import socket; socket.socket()'\n"
            "print(subprocess.run([sys.executable, '-c', code], capture_output=True).returncode)\n"
        )
        assert in_a_process(TRY + closed).split() == ["PermissionError", "PermissionError", "reached", "1"]


def test_memory_and_files_have_limits() -> None:
    limits = {"memory_bytes": 1 << 30, "files": 20, "file_bytes": 1000}
    code = f"""
sandbox.restrict({limits!r}, is_network_open=True)
try:
    bytearray(2 << 30)
except MemoryError:
    print("memory")
try:
    kept = [open("/dev/null") for _ in range(50)]
except OSError:
    kept = []
    print("files")
"""
    assert in_a_process(code).split() == ["memory", "files"]


def test_frames_come_whole_and_their_end_shows() -> None:
    ours, theirs = socket.socketpair()
    one, other = Channel(ours), Channel(theirs)
    parts = [b"a" * 300_000, b"bc"]
    sending = threading.Thread(target=one.send, args=({"pen": 4}, parts))
    sending.start()
    frame = other.receive()
    sending.join()
    assert frame is not None
    header, body = frame
    assert header == {"pen": 4}
    assert bytes(body) == b"".join(parts)
    ours.close()
    assert other.receive() is None


def encoded(name: str, datatype: str, values: Any) -> tuple[dict[str, Any], bytes]:
    told, parts = model.encode([(name, np.asarray(values))])
    assert told[0]["datatype"] == datatype
    return told[0], parts[0]


def test_inputs_become_what_the_model_takes() -> None:
    columns = [encoded("t", "FP64", [1.5, 2.5]), encoded("at", "BYTES", np.array(["2012-01-01", "2012-01-02"]))]
    specs = [spec for spec, _ in columns]
    body = memoryview(b"".join(part for _, part in columns))
    frame = model.inputs_of(specs, body, "frame", ["at"])
    assert list(frame.columns) == ["t", "at"]
    assert frame["at"][1] == pd.Timestamp("2012-01-02")
    spec, part = encoded("x", "FP32", np.ones((2, 3), "f4"))
    array = model.inputs_of([spec], memoryview(part), "array", [])
    assert array.shape == (2, 3)
    array[0, 0] = 7  # models may write into it
    assert model.inputs_of([spec], memoryview(part), "arrays", []).keys() == {"x"}


@pytest.mark.parametrize(
    ("result", "form", "expected"),
    [
        (np.array([1.0, 2.0]), "array", [("predictions", "FP64", [2])]),
        ([1, 2], "array", [("predictions", "INT64", [2])]),
        (3.5, "array", [("predictions", "FP64", [1])]),
        (pd.Series([True, False]), "array", [("predictions", "BOOL", [2])]),
        (["a", "ø"], "array", [("predictions", "BYTES", [2])]),
        (np.array([1, None], dtype=object), "array", [("predictions", "FP64", [2])]),
        (np.array([{"a": 1}], dtype=object), "array", [("predictions", "BYTES", [1])]),
        (np.ones((2, 2), ">f4"), "array", [("predictions", "FP32", [2, 2])]),
        (pd.DataFrame({"y": [1], "z": ["a"]}), "records", [("y", "INT64", [1]), ("z", "BYTES", [1])]),
        ({"y": np.zeros((1, 2), "i1")}, "arrays", [("y", "INT8", [1, 2])]),
    ],
)
def test_answers_become_tensors(result: Any, form: str, expected: list[tuple[str, str, list[int]]]) -> None:
    told_form, outputs = model.outputs_of(result)
    told, parts = model.encode(outputs)
    assert told_form == form
    assert [(one["name"], one["datatype"], one["shape"]) for one in told] == expected
    assert [one["size"] for one in told] == [len(part) for part in parts]
    json.dumps(told)


def test_what_no_tensor_can_hold_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="complex"):
        model.encode([("y", np.array([1j]))])


def test_an_application_has_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_application.py").write_text("app = 5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = {"kind": "wsgi", "folder": str(tmp_path), "socket": str(tmp_path / "s"), "app": "no_application:app"}
    with pytest.raises(TypeError, match="no WSGI application"):
        program.load(settings)


def test_errors_are_told_on_one_line() -> None:
    assert sandbox.in_words(ValueError("a\nb")) == "ValueError: a b"
    assert sandbox.in_words(MemoryError()) == "MemoryError"
