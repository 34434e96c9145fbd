"""The image: built with buildah from the Dockerfile, run with podman, asked for a prediction."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, answers, free_port, needed, run, until

IMAGE = "localhost/fishy-test:1"
# The host's network and few limits: what podman needs where there is no systemd and no bridge.
CONTAINERS = """
[containers]
netns = "host"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
# Logs a model of MLflow's format with its signature and an example, under the alias that the deployment follows.
REGISTER = """
import sys
import mlflow, numpy as np, onnx
from mlflow.models import infer_signature
mlflow.set_tracking_uri(sys.argv[1])
example = np.array([[1.0, 2.0, 3.0]])
signature = infer_signature(example, np.array([[1.0]]))
with mlflow.start_run():
    model = onnx.load(sys.argv[2])
    options = {"signature": signature, "registered_model_name": "half", "pip_requirements": []}
    info = mlflow.onnx.log_model(model, name="model", **options)
mlflow.MlflowClient().set_registered_model_alias("half", "champion", info.registered_model_version)
"""


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of buildah and podman: a storage of their own, which ends with the tests."""
    for program, package in [("buildah", "buildah"), ("podman", "podman"), ("runc", "runc"), ("strip", "binutils")]:
        needed(program, package)
    folder = tmp_path_factory.mktemp("containers")
    (folder / "containers.conf").write_text(CONTAINERS)
    storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    (folder / "storage.conf").write_text(storage)
    yield {
        **os.environ,
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def image(podman: dict[str, str], fishy: str, python: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The stage `fishy` of the Dockerfile. No registry of images is needed: the stages before it, which compile and
    download, are replaced by what cargo and the set-up have made already."""
    folder = tmp_path_factory.mktemp("stages")
    (folder / "build/out").mkdir(parents=True)
    run("strip", "-o", folder / "build/out/fishy", fishy)
    (folder / "onnxruntime/out").mkdir(parents=True)
    code = "import onnxruntime, pathlib; print(pathlib.Path(onnxruntime.__file__).parent / 'capi')"
    library = next(Path(run(python, "-c", code).strip()).glob("libonnxruntime.so.*"))
    shutil.copy(library, folder / "onnxruntime/out/libonnxruntime.so")
    (folder / "base/data").mkdir(parents=True)
    run(ROOT / "deploy/docker/base.sh", folder / "base/out")
    stages = [f"--build-context={stage}={folder / stage}" for stage in ("build", "onnxruntime", "base")]
    command = ["buildah", "--isolation=chroot", "build", "--quiet", "--format=docker", "--layers=false"]
    dockerfile = ROOT / "deploy/docker/Dockerfile"
    run(
        *command,
        *stages,
        "--target=fishy",
        f"--file={dockerfile}",
        f"--tag={IMAGE}",
        ROOT / "deploy/docker",
        env=podman,
    )
    shutil.rmtree(folder)
    return IMAGE


class Container:
    """A container with the restrictions that the chart gives to its pods."""

    def __init__(self, image: str, podman: dict[str, str], *arguments: str, **variables: str) -> None:
        self.environment = podman
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = [f"--env={name}={value}" for name, value in variables.items()]
        limits = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--no-healthcheck"]
        command = ["podman", "run", "--detach", *limits, "--tmpfs=/tmp", "--volume=/var/lib/fishy", *settings, image]
        self.id = run(*command, *(word.format(port=self.port) for word in arguments), env=podman).strip()

    def __enter__(self) -> Container:
        def is_up() -> bool:
            state = run("podman", "inspect", "--format={{.State.Running}}", self.id, env=self.environment)
            assert state.strip() == "true", self.logs()
            return answers(f"{self.url}/health")

        try:
            until("the container is up", is_up)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        run("podman", "rm", "--force", "--volumes", "--time=20", self.id, env=self.environment)

    def exec(self, *command: str) -> str:
        return run("podman", "exec", self.id, "/usr/bin/fishy", *command, env=self.environment)

    def logs(self) -> str:
        done = subprocess.run(["podman", "logs", self.id], env=self.environment, capture_output=True, text=True)
        return done.stdout + done.stderr


def test_it_is_small_and_not_root(image: str, podman: dict[str, str]) -> None:
    inspected = json.loads(run("podman", "image", "inspect", image, env=podman))[0]
    assert inspected["Config"]["User"] == "10001:10001"
    assert inspected["Config"]["Entrypoint"] == ["/usr/bin/fishy"]
    assert inspected["Healthcheck"]["Test"][:2] == ["CMD", "/usr/bin/fishy"]
    container = run("buildah", "from", image, env=podman).strip()
    root = Path(run("buildah", "mount", container, env=podman).strip())
    files = [file for file in root.rglob("*") if file.is_file() and not file.is_symlink()]
    sizes = {str(file.relative_to(root)): file.stat().st_size for file in files}
    own = sizes.pop("usr/bin/fishy") + sizes.pop("usr/lib/fishy/libonnxruntime.so")
    others = sum(sizes.values())
    programs = [file for file in files if file.parent.name in ("bin", "sbin")]
    privileged = [file for file in files if file.stat().st_mode & 0o6000]
    run("buildah", "rm", container, env=podman)
    print(f"program and engine {own / 1e6:.0f} MB, everything else {others / 1e6:.1f} MB")
    assert others < 15e6, sorted(sizes.items(), key=lambda item: -item[1])[:10]
    assert [file.name for file in programs] == ["fishy"], "no shell, no package manager"
    assert not privileged


def test_it_predicts(image: str, podman: dict[str, str], python: str) -> None:
    with Container(image, podman, "up", "--listen", "127.0.0.1:{port}") as container:
        assert container.exec("healthcheck", "--url", container.url) == ""
        model = ROOT / "services/deployment/tests/fixtures/linear_half.onnx"
        run(python, "-c", REGISTER, container.url, model, cwd=ROOT)
        container.exec("deploy", "half", "--model", "models:/half@champion", "--url", container.url)
        body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1.0, 2.0, 3.0]}]}
        metadata = json.loads(urllib.request.urlopen(f"{container.url}/v2/models/half", timeout=30).read())
        body["inputs"][0] |= {key: metadata["inputs"][0][key] for key in ("name", "datatype")}
        request = urllib.request.Request(f"{container.url}/v2/models/half/infer", json.dumps(body).encode())
        answer = json.loads(urllib.request.urlopen(request, timeout=30).read())
        assert len(answer["outputs"][0]["data"]) == 1, answer
        processes = run("podman", "top", container.id, "huser", env=podman)
        assert processes.split()[1:] == ["10001"], processes
        run("podman", "stop", "--time=20", container.id, env=podman)
        code = run("podman", "inspect", "--format={{.State.ExitCode}}", container.id, env=podman)
        assert code.strip() == "0", container.logs()


def test_without_an_identity_it_does_not_listen_to_the_world(image: str, podman: dict[str, str]) -> None:
    command = ["podman", "run", "--rm", "--no-healthcheck", image]
    done = subprocess.run(command, env=podman, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "without an identity" in done.stderr, done.stderr


def test_the_first_token_is_made_in_the_container(image: str, podman: dict[str, str]) -> None:
    """As the chart's notes say; the image has no shell to help."""
    arguments = ["up", "--listen", "127.0.0.1:{port}"]
    with Container(image, podman, *arguments, FISHY__AUTH__TOKENS="true") as container:
        assert not answers(f"{container.url}/api/v1/deployments"), "nobody may ask without a token"
        token = container.exec("token", "create", "admin", "--role", "admin", "--offline").strip()
        request = urllib.request.Request(
            f"{container.url}/api/v1/deployments", headers={"authorization": f"Bearer {token}"}
        )
        assert urllib.request.urlopen(request, timeout=30).status == 200
