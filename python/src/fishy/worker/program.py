"""Runs a custom predictor: a WSGI application, or any command that listens on a port."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, socket
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from .channel import Channel

# A request whose caller sends nothing for so long is given up.
SILENCE_SECONDS = 60.0
# What a command is given to end by itself.
GRACE_SECONDS = 1.5


class Handler(WSGIRequestHandler):
    """One request; nothing of it is written to the log."""

    timeout = SILENCE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """The server counts and records requests itself."""

    def get_environ(self) -> dict[str, Any]:
        """With the place that the application has among the server's paths, so that its links lead back to it."""
        environ = super().get_environ()
        environ["SCRIPT_NAME"] = environ.pop("HTTP_X_FORWARDED_PREFIX", "")
        environ["wsgi.url_scheme"] = environ.get("HTTP_X_FORWARDED_PROTO", "http")
        return environ


class Server(ThreadingMixIn, WSGIServer):
    """Serves an application on a socket file, a thread for each request; the server bounds how many there are."""

    address_family = AF_UNIX
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        """A file has no host and no port."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", 80
        self.setup_environ()

    def get_request(self) -> tuple[socket, tuple[str, int]]:
        """Whoever asks has no address either."""
        connection, _ = self.socket.accept()
        return connection, ("127.0.0.1", 0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no error; what an application raises is answered 500, with the trace on stderr."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def load(settings: dict[str, Any]) -> Callable[[Channel], None]:
    """Loads the application, or starts the command."""
    os.chdir(settings["folder"])
    if settings["kind"] == "wsgi":
        return load_application(settings)
    return start_command(settings)


def load_application(settings: dict[str, Any]) -> Callable[[Channel], None]:
    """`module:name`, with the program's folder in front of the path."""
    sys.path.insert(0, settings["folder"])
    module, _, name = settings["app"].partition(":")
    application: Any = importlib.import_module(module)
    for part in name.split("."):
        application = getattr(application, part)
    if not callable(application):
        raise TypeError(f"{settings['app']} is {type(application).__name__}, and no WSGI application")
    Path(settings["socket"]).unlink(missing_ok=True)
    server = Server(settings["socket"], Handler)
    server.set_app(application)

    def run(channel: Channel) -> None:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while channel.receive() is not None:
            pass
        # Requests that are under way have no caller any more.
        os._exit(0)

    return run


def start_command(settings: dict[str, Any]) -> Callable[[Channel], None]:
    """Any program: its port is in the variable PORT, and stands for `$PORT` in its arguments."""
    port = str(settings["port"])
    command = [argument.replace("$PORT", port) for argument in settings["command"]]
    if command[0] == "python":
        command[0] = sys.executable
    child = subprocess.Popen(command, env={**os.environ, "PORT": port}, stdin=subprocess.DEVNULL)

    def run(channel: Channel) -> None:
        threading.Thread(target=end_with_server, args=(channel, child), daemon=True).start()
        status = child.wait()
        # As it ended, so ends this: by the same signal, or with the same status.
        if status < 0 and -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        if status < 0:
            os.kill(os.getpid(), -status)
        os._exit(status)

    return run


def end_with_server(channel: Channel, child: subprocess.Popen[bytes]) -> None:
    """Ends the command when the server is gone, or does not want it any more."""
    while channel.receive() is not None:
        pass
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
