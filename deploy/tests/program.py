"""A running fishy, and what it tells Prometheus."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from conftest import ROOT, answers, free_port, until


class Program:
    """`fishy up`, or some of its services, on a free port of this machine."""

    def __init__(self, fishy: str, home: Path, *arguments: str, port: int | None = None, **variables: str) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.home = home
        self.log = home.with_suffix(".log")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FISHY")}
        command = [fishy, *(arguments or ("up",)), "--listen", f"127.0.0.1:{self.port}", "--data-dir", str(home)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment | variables, stdout=log, stderr=log)

    def __enter__(self) -> Program:
        def is_up() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return answers(f"{self.url}/health")

        until("fishy is up", is_up)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return str(answer.read().decode())

    def ask(self, path: str) -> Any:
        return json.loads(self.get(path))

    def send(self, method: str, path: str, body: Any) -> Any:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), method=method)
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None
