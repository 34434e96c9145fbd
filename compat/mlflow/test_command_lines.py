"""The command lines of the `mlflow` package against a running fishy."""

import contextlib
import csv
import io
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

URL = os.environ.get("FISHY_URL", "")
if not URL:
    pytest.skip("FISHY_URL is not set: there is no server to test", allow_module_level=True)

os.environ["MLFLOW_TRACKING_URI"] = URL
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow  # noqa: E402
import pandas as pd  # noqa: E402
import requests  # noqa: E402
from click.testing import CliRunner  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from mlflow.cli import cli  # noqa: E402


@pytest.fixture(scope="module")
def client():
    mlflow.set_tracking_uri(URL)
    mlflow.set_registry_uri(URL)
    return MlflowClient(URL, URL)


def line(*arguments, fails=False):
    """What a command line prints."""
    ended = CliRunner().invoke(cli, list(map(str, arguments)))
    assert (ended.exit_code != 0) == fails, f"{ended.output}{ended.exception!r}"
    return ended.output + (str(ended.exception) if fails else "")


def typed(*arguments):
    """What it prints in a process of its own, as a person types it."""
    command = [sys.executable, "-m", "mlflow", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_experiments(client):
    name = f"line-{uuid.uuid4().hex[:12]}"
    told = typed("experiments", "create", "--experiment-name", name)
    experiment = client.get_experiment_by_name(name)
    assert experiment.experiment_id in told
    assert name in line("experiments", "search")
    line("experiments", "rename", "--experiment-id", experiment.experiment_id, "--new-name", f"{name}-b")
    run_id = client.create_run(experiment.experiment_id).info.run_id
    client.log_metric(run_id, "mae", 0.25)
    rows = list(csv.DictReader(io.StringIO(line("experiments", "csv", "-x", experiment.experiment_id))))
    assert [(row["run_id"], row["metrics.mae"]) for row in rows] == [(run_id, "0.25")]
    line("experiments", "delete", "--experiment-id", experiment.experiment_id)
    assert f"{name}-b" not in line("experiments", "search")
    assert f"{name}-b" in line("experiments", "search", "--view", "deleted_only")
    line("experiments", "restore", "--experiment-id", experiment.experiment_id)
    assert client.get_experiment(experiment.experiment_id).lifecycle_stage == "active"
    told = line("experiments", "create", "--experiment-name", f"{name}-b", fails=True)
    assert "already exists" in told


def test_runs_and_artifacts(client, tmp_path):
    experiment = client.create_experiment(f"line-{uuid.uuid4().hex[:12]}")
    run_id = client.create_run(experiment, run_name="from a line").info.run_id
    client.log_param(run_id, "depth", "4")
    assert "from a line" in line("runs", "list", "--experiment-id", experiment)
    told = json.loads(line("runs", "describe", "--run-id", run_id))
    assert told["info"]["run_id"] == run_id and told["data"]["params"] == {"depth": "4"}
    (tmp_path / "a.txt").write_text("cod")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/b.txt").write_text("char")
    line("artifacts", "log-artifact", "--local-file", tmp_path / "a.txt", "--run-id", run_id)
    line("artifacts", "log-artifacts", "--local-dir", tmp_path / "folder", "--run-id", run_id, "--artifact-path", "in")
    listed = json.loads(typed("artifacts", "list", "--run-id", run_id))
    assert sorted(one["path"] for one in listed) == ["a.txt", "in"]
    listed = json.loads(line("artifacts", "list", "--run-id", run_id, "--artifact-path", "in"))
    assert [(one["path"], one["file_size"]) for one in listed] == [("in/b.txt", 4)]
    line("artifacts", "download", "--run-id", run_id, "--artifact-path", "in", "--dst-path", tmp_path / "out")
    assert (tmp_path / "out/in/b.txt").read_text() == "char"
    line("runs", "delete", "--run-id", run_id)
    assert run_id not in line("runs", "list", "--experiment-id", experiment)
    assert run_id in line("runs", "list", "--experiment-id", experiment, "--view", "deleted_only")
    line("runs", "restore", "--run-id", run_id)
    assert client.get_run(run_id).info.lifecycle_stage == "active"
    assert "none" in line("runs", "describe", "--run-id", "none", fails=True)


def test_models_predict(client, tmp_path):
    from sklearn.linear_model import LinearRegression

    name = f"line-{uuid.uuid4().hex[:12]}"
    x = pd.DataFrame({"temperature": [0.0, 1.0, 2.0]})
    with mlflow.start_run(experiment_id=client.create_experiment(name)):
        model = LinearRegression().fit(x, [1.0, 3.0, 5.0])
        mlflow.sklearn.log_model(model, name="m", registered_model_name=name, pip_requirements=["scikit-learn"])
    client.set_registered_model_alias(name, "champion", "1")
    (tmp_path / "in.csv").write_text("temperature\n3.0\n4.0\n")
    out = tmp_path / "out.json"
    files = ["--input-path", tmp_path / "in.csv", "--content-type", "csv", "--output-path", out]
    typed("models", "predict", "--model-uri", f"models:/{name}@champion", "--env-manager", "local", *files)
    assert json.loads(out.read_text())["predictions"] == pytest.approx([7.0, 9.0])
    files = ["--input-path", tmp_path / "in.csv", "--content-type", "csv"]
    told = line("models", "predict", "--model-uri", f"models:/{name}/9", "--env-manager", "local", *files, fails=True)
    assert "9" in told and "not found" in told.lower()


def served(uri, rows, log):
    """What a server of `mlflow models serve` predicts for some rows."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", uri, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # MLflow starts `uvicorn` by its name.
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, env=env)
        try:
            end = time.monotonic() + 120
            while True:
                assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
                try:
                    if requests.get(f"http://127.0.0.1:{port}/ping", timeout=2).ok:
                        break
                except requests.RequestException:
                    pass
                time.sleep(0.1)
            body = {"dataframe_split": {"columns": ["temperature"], "data": rows}}
            answer = requests.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=30)
            assert answer.ok, answer.text
            return answer.json()["predictions"]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait(30)


def test_models_serve(client, tmp_path):
    from sklearn.linear_model import LinearRegression

    name = f"line-{uuid.uuid4().hex[:12]}"
    x = pd.DataFrame({"temperature": [0.0, 1.0, 2.0]})
    experiment = client.create_experiment(name)
    for slope in (2.0, 5.0):
        with mlflow.start_run(experiment_id=experiment):
            model = LinearRegression().fit(x, 1.0 + slope * x["temperature"])
            mlflow.sklearn.log_model(model, name="m", registered_model_name=name, pip_requirements=["scikit-learn"])
    rows = [[3.0], [4.0]]
    for version, expected in (("1", [7.0, 9.0]), ("2", [16.0, 21.0])):
        client.set_registered_model_alias(name, "champion", version)
        assert served(f"models:/{name}@champion", rows, tmp_path / f"log-{version}") == pytest.approx(expected)
    assert served(f"models:/{name}/1", rows, tmp_path / "log-number") == pytest.approx([7.0, 9.0])
    arguments = ["models", "serve", "--model-uri", f"models:/{name}@nobody", "--env-manager", "local"]
    command = [sys.executable, "-m", "mlflow", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode != 0 and "alias nobody not found" in ended.stdout + ended.stderr
