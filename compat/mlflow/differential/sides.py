"""The two servers, and how an operation is put to each of them."""

import contextlib
import copy
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[3]
# A thing that has another id on each side is named `{kind-number}` in operations.
SYMBOL = re.compile(r"\{(?:exp|run|model|hook)-\d+\}")


def fishy_binary() -> Path:
    """The binary that is tested."""
    named = os.environ.get("FISHY_BINARY")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return Path(named) if named else target / "debug" / "fishy"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Side:
    """One of the two servers."""

    name: str
    url: str
    ids: dict[str, str] = field(default_factory=dict)
    symbols: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client = MlflowClient(self.url, self.url)
        self.session = requests.Session()

    def learn(self, symbol: str, real: str) -> None:
        self.ids[symbol] = real
        self.symbols[real] = symbol

    def real(self, value: Any) -> Any:
        """The value with the ids of this side in the places of symbols."""
        if isinstance(value, str):
            return SYMBOL.sub(lambda found: self.ids[found.group(0)], value)
        if isinstance(value, list | tuple):
            return type(value)(self.real(item) for item in value)
        if isinstance(value, dict):
            return {self.real(key): self.real(item) for key, item in value.items()}
        if type(value).__module__.startswith("mlflow.entities"):
            value = copy.copy(value)
            value.__dict__.update(self.real(vars(value)))
        return value


@dataclass
class Call:
    """A method of the client."""

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def on(self, side: Side) -> Any:
        return getattr(side.client, self.method)(*side.real(self.args), **side.real(self.kwargs))

    def __str__(self) -> str:
        named = [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"client.{self.method}({', '.join([*map(repr, self.args), *named])})"


def call(method: str, *args: Any, **kwargs: Any) -> Call:
    return Call(method, args, kwargs)


@dataclass
class Rest:
    """A request that no client stands between."""

    method: str
    path: str
    body: Any = None
    query: dict[str, Any] | None = None
    raw: bytes | None = None
    content_type: str = "application/json"

    def on(self, side: Side) -> Any:
        prefix = "" if self.path.startswith("/") else "/api/2.0/mlflow/"
        headers = {"Content-Type": self.content_type} if self.raw is not None else {}
        answer = side.session.request(
            self.method,
            side.url + prefix + side.real(self.path),
            json=side.real(self.body) if self.body is not None else None,
            params=side.real(self.query),
            data=self.raw,
            headers=headers,
            timeout=60,
        )
        body: Any = answer.content
        with contextlib.suppress(ValueError):
            body = answer.json()
        if answer.status_code >= 400:
            code = body.get("error_code") if isinstance(body, dict) else None
            return {"status": answer.status_code, "error_code": code}
        return {"status": answer.status_code, "body": body}

    def __str__(self) -> str:
        shown = self.raw if self.raw is not None else self.body if self.body is not None else self.query
        text = repr(shown)
        return f"{self.method} {self.path} {text if len(text) < 600 else text[:600] + '…'}"


@dataclass
class Local:
    """Several steps of a client that give one answer."""

    label: str
    steps: Any

    def on(self, side: Side) -> Any:
        return self.steps(side)

    def __str__(self) -> str:
        return self.label


@contextlib.contextmanager
def running(folder: Path):
    """Starts both servers with empty stores; gives the sides, MLflow first."""
    ports = free_port(), free_port()
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        quiet[name] = ""
    commands = [
        [
            *[sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(ports[0])],
            *["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"],
            *["--artifacts-destination", str(folder / "mlflow-artifacts")],
        ],
        [str(fishy_binary()), "up", "--listen", f"127.0.0.1:{ports[1]}", "--data-dir", str(folder / "fishy")],
    ]
    with contextlib.ExitStack() as stack:
        processes = []
        for name, command in zip(("mlflow", "fishy"), commands, strict=True):
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **quiet}, start_new_session=True
            )
            stack.callback(stop, process)
            processes.append(process)
        sides = [Side(name, f"http://127.0.0.1:{port}") for name, port in zip(("mlflow", "fishy"), ports, strict=True)]
        for side, process in zip(sides, processes, strict=True):
            wait_for(side.url, process, folder / f"{side.name}.log")
        yield sides


def wait_for(url: str, process: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}/health", timeout=2).ok:
                return
        time.sleep(0.1)
    raise AssertionError(f"{url} does not answer: {log.read_text()[-3000:]}")


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
