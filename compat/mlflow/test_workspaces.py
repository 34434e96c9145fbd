"""Workspaces with the unmodified `mlflow` client, against fishy and against a real MLflow server, which must behave the
same. `FISHY_BINARY=target/debug/fishy pytest test_workspaces.py`."""

import os
import subprocess
import sys

import pytest

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import pandas as pd
from differential.sides import Side, fishy_binary, free_port, stop, wait_for
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from own_server import ROOT


@pytest.fixture(params=["fishy", "mlflow"])
def server(request, tmp_path, monkeypatch):
    """A server with workspaces; the client knows of no other."""
    port = free_port()
    if request.param == "fishy":
        command = [fishy_binary(), "up", "--listen", f"127.0.0.1:{port}", "--data-dir", tmp_path / "data"]
    else:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
        command += ["--enable-workspaces", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
        command += ["--artifacts-destination", tmp_path / "files"]
    settings = {"FISHY__REGISTRY__WORKSPACES": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    settings |= {"MLFLOW_TRACKING_URI": "", "MLFLOW_REGISTRY_URI": ""}
    address = f"http://127.0.0.1:{port}"
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=out,
            stderr=out,
            cwd=ROOT,
            env=os.environ | settings,
            start_new_session=True,
        )
        try:
            wait_for(address, process, log)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
            mlflow.set_tracking_uri(address)
            mlflow.set_registry_uri(address)
            yield Side(request.param, address)
        finally:
            mlflow.set_workspace(None)
            mlflow.set_tracking_uri(None)
            mlflow.set_registry_uri(None)
            stop(process)


def refusal(call, *arguments, **named):
    """The code of the error that a call ends with."""
    with pytest.raises(MlflowException) as caught:
        call(*arguments, **named)
    return caught.value.error_code


def names():
    return [workspace.name for workspace in mlflow.list_workspaces()]


@pytest.mark.usefixtures("server")
def test_workspaces_are_made_changed_and_deleted():
    assert names() == ["default"]
    made = mlflow.create_workspace("south", description="pens 1 to 9")
    assert (made.name, made.description, made.default_artifact_root) == ("south", "pens 1 to 9", None)
    mlflow.create_workspace("north")
    assert names() == ["default", "north", "south"]
    assert refusal(mlflow.create_workspace, "south") == "RESOURCE_ALREADY_EXISTS"
    assert mlflow.update_workspace("south", description="closed").description == "closed"
    assert mlflow.get_workspace("south").description == "closed"
    assert mlflow.get_workspace("north").description is None
    assert refusal(mlflow.get_workspace, "nobody") == "RESOURCE_DOES_NOT_EXIST"
    assert refusal(mlflow.create_workspace, "../south") == "INVALID_PARAMETER_VALUE"
    assert refusal(MlflowClient().delete_workspace, "default") == "INVALID_PARAMETER_VALUE"
    mlflow.set_workspace("south")
    mlflow.create_experiment("in the south")
    mlflow.set_workspace(None)
    # MLflow answers 500 here, which its client takes for a server that is ill.
    with pytest.raises(MlflowException, match=r"still contains|500 error"):
        mlflow.delete_workspace("south")
    mlflow.delete_workspace("south", mode="CASCADE")
    mlflow.delete_workspace("north")
    assert names() == ["default"]
    mlflow.create_workspace("south")
    mlflow.set_workspace("south")
    assert mlflow.get_experiment_by_name("in the south") is None, "one of the same name begins empty"
    mlflow.set_workspace("nobody")
    assert refusal(mlflow.search_experiments) == "RESOURCE_DOES_NOT_EXIST"


def fill(tmp_path, slope):
    """A run with everything, and a registered model; the ids."""
    from sklearn.linear_model import LinearRegression

    experiment = mlflow.set_experiment("oxygen")
    x = pd.DataFrame({"temperature": [0.0, 1.0, 2.0]})
    (tmp_path / "note.txt").write_text(f"slope {slope}")
    with mlflow.start_run() as run:
        mlflow.log_param("slope", slope)
        mlflow.log_metric("mae", slope / 10)
        mlflow.log_artifact(str(tmp_path / "note.txt"))
        mlflow.log_input(mlflow.data.from_pandas(x, name="water"), context="training")
        model = LinearRegression().fit(x, slope * x["temperature"])
        logged = mlflow.sklearn.log_model(
            model, name="m", registered_model_name="oxygen", pip_requirements=["scikit-learn"]
        )
    MlflowClient().set_registered_model_alias("oxygen", "champion", "1")
    return experiment.experiment_id, run.info.run_id, logged.model_id


def predicted():
    model = mlflow.pyfunc.load_model("models:/oxygen@champion")
    return float(model.predict(pd.DataFrame({"temperature": [10.0]}))[0])


def test_the_client_works_in_each_and_finds_nothing_of_another(server, tmp_path):
    made = {}
    for slope, workspace in ((2.0, "default"), (3.0, "north"), (5.0, "south")):
        if workspace != "default":
            mlflow.create_workspace(workspace)
        mlflow.set_workspace(workspace)
        made[workspace] = (slope, *fill(tmp_path, slope))
    for workspace, (slope, experiment, run, model) in made.items():
        mlflow.set_workspace(workspace)
        client = MlflowClient()
        assert client.get_experiment(experiment).workspace == workspace
        assert client.get_run(run).data.params["slope"] == str(slope)
        assert predicted() == pytest.approx(slope * 10)
        assert mlflow.artifacts.load_text(f"runs:/{run}/note.txt") == f"slope {slope}"
        found = mlflow.search_runs(search_all_experiments=True)
        assert list(found["run_id"]) == [run]
        assert [found.name for found in client.search_registered_models()] == ["oxygen"]
        assert [one.model_id for one in client.search_logged_models([experiment])] == [model]
        assert len(client.search_model_versions()) == 1
        for other, (_, their_experiment, their_run, their_model) in made.items():
            if other == workspace:
                continue
            assert experiment != their_experiment
            assert refusal(client.get_experiment, their_experiment) == "RESOURCE_DOES_NOT_EXIST"
            assert refusal(client.get_run, their_run) == "RESOURCE_DOES_NOT_EXIST"
            assert refusal(client.log_metric, their_run, "x", 1.0) == "RESOURCE_DOES_NOT_EXIST"
            assert refusal(client.delete_run, their_run) == "RESOURCE_DOES_NOT_EXIST"
            assert refusal(client.get_logged_model, their_model) == "RESOURCE_DOES_NOT_EXIST"
            assert refusal(client.list_artifacts, their_run) == "RESOURCE_DOES_NOT_EXIST"
            if server.name == "fishy":
                # MLflow lets this through.
                with pytest.raises(MlflowException, match="must identify the resource"):
                    client.create_model_version("oxygen", f"runs:/{their_run}/m", their_run)
            assert list(client.search_runs([their_experiment])) == []
    # Another command, told by the environment alone.
    command = [sys.executable, "-m", "mlflow", "experiments", "search"]
    for workspace, (_, experiment, _, _) in made.items():
        environment = os.environ | {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_WORKSPACE": workspace}
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
        found = {line.split()[0] for line in printed.stdout.splitlines() if "oxygen" in line}
        assert found == {experiment}, workspace
