"""The Open Inference Protocol's clients, each in an environment of its own, against the running server.

The models are logged and registered by the mlflow client and deployed by our API; the clients then run as programs of
their own, since `tritonclient` and `kserve` cannot be imported together.
"""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

URL = os.environ.get("FISHY_URL", "")
if not URL:
    pytest.skip("FISHY_URL is not set: there is no server to test", allow_module_level=True)

os.environ["MLFLOW_TRACKING_URI"] = URL
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from models import deploy, echo, sums  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def deployed():
    unique = uuid.uuid4().hex[:12]
    return {"echo": deploy(echo(), f"echo-{unique}"), "sums": deploy(sums(), f"sums-{unique}")}


@pytest.mark.parametrize(
    ("client", "environment"),
    [
        ("triton_http", "FISHY_PYTHON_TRITON"),
        ("triton_grpc", "FISHY_PYTHON_TRITON"),
        ("grpc_reflection_and_health", "FISHY_PYTHON_TRITON"),
        ("kserve_clients", "FISHY_PYTHON_KSERVE"),
    ],
)
def test_the_client_works(client, environment, deployed):
    python = os.environ.get(environment)
    assert python, f"{environment} names an interpreter with the client: cargo xtask test sets it"
    ended = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / f"{client}.py"],
        env={
            "FISHY_URL": URL,
            "FISHY_ECHO": deployed["echo"],
            "FISHY_SUMS": deployed["sums"],
            "PATH": os.environ["PATH"],
            # gRPC would go through a proxy that the machine may name.
            "NO_PROXY": "127.0.0.1,localhost",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(ended.stdout, file=sys.stderr)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
