"""Frames on the socket to the server: the length of a JSON header (4 bytes), that of the body (8 bytes), both parts."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

LENGTHS = struct.Struct("<IQ")


class Channel:
    """This end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    @classmethod
    def from_standard_input(cls) -> Channel:
        """Takes the socket away from where code of the model would read."""
        end = socket.socket(fileno=os.dup(0))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        return cls(end)

    def send(self, header: dict[str, Any], body: list[bytes] | None = None) -> None:
        """Sends one frame."""
        head = json.dumps(header).encode()
        parts = body or []
        self.end.sendall(LENGTHS.pack(len(head), sum(map(len, parts))) + head)
        for part in parts:
            self.end.sendall(part)

    def receive(self) -> tuple[dict[str, Any], memoryview] | None:
        """The next frame; `None` when the server is gone."""
        lengths = self._read(LENGTHS.size)
        if lengths is None:
            return None
        head_len, body_len = LENGTHS.unpack(lengths)
        head, body = self._read(head_len), self._read(body_len)
        if head is None or body is None:
            return None
        return json.loads(bytes(head)), memoryview(body)

    def _read(self, size: int) -> bytearray | None:
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            got = self.end.recv_into(view[done:])
            if got == 0:
                return None
            done += got
        return data
