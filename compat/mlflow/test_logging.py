"""What data scientists log without thinking of it: autolog, nested runs, tables, figures, data sets."""

import os
import subprocess
import sys
import textwrap
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
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow import MlflowClient  # noqa: E402


@pytest.fixture(scope="module")
def client():
    mlflow.set_tracking_uri(URL)
    mlflow.set_registry_uri(URL)
    return MlflowClient(URL, URL)


@pytest.fixture
def experiment(client):
    made = client.create_experiment(f"logging-{uuid.uuid4().hex[:12]}")
    # Runs in runs, and tables, go by the active experiment.
    mlflow.set_experiment(experiment_id=made)
    return made


@pytest.fixture
def readings():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(size=(40, 2)), columns=["temperature", "salinity"])
    return frame, 2 * frame["temperature"] - frame["salinity"]


def test_autolog_of_a_search_makes_nested_runs(client, experiment, readings):
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    x, y = readings
    mlflow.sklearn.autolog(max_tuning_runs=3, log_datasets=True, silent=True)
    try:
        with mlflow.start_run(experiment_id=experiment) as run:
            GridSearchCV(Ridge(), {"alpha": [0.1, 1.0, 10.0]}, cv=2).fit(x, y)
    finally:
        mlflow.sklearn.autolog(disable=True)
    parent = client.get_run(run.info.run_id)
    assert parent.data.params["best_alpha"] == "0.1" and "best_cv_score" in parent.data.metrics
    assert "cv_results.csv" in [file.path for file in client.list_artifacts(run.info.run_id)]
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert sorted(child.data.params["alpha"] for child in children) == ["0.1", "1.0", "10.0"]
    [data] = parent.inputs.dataset_inputs
    assert "temperature" in data.dataset.schema
    assert len(parent.outputs.model_outputs) == 2, "the best estimator, and the search itself"


def test_runs_in_runs_in_runs(client, experiment):
    with mlflow.start_run(experiment_id=experiment, run_name="farm") as farm:
        with (
            mlflow.start_run(nested=True, run_name="pen") as pen,
            mlflow.start_run(nested=True, run_name="probe") as probe,
        ):
            mlflow.log_metric("mae", 0.5)
        mlflow.log_metric("mae", 0.7)
    parents = [client.get_parent_run(one.info.run_id) for one in (farm, pen, probe)]
    assert [one and one.info.run_id for one in parents] == [None, farm.info.run_id, pen.info.run_id]
    assert client.get_run(probe.info.run_id).data.metrics == {"mae": 0.5}
    assert client.get_run(farm.info.run_id).info.status == "FINISHED"
    client.delete_run(farm.info.run_id)
    assert len(client.search_runs([experiment])) == 2, "those in it stay"
    client.restore_run(farm.info.run_id)
    assert len(client.search_runs([experiment])) == 3


def test_a_run_that_fails_says_so(client, experiment):
    with pytest.raises(ZeroDivisionError), mlflow.start_run(experiment_id=experiment) as run:
        raise ZeroDivisionError
    assert client.get_run(run.info.run_id).info.status == "FAILED"
    with mlflow.start_run(run_id=run.info.run_id):
        mlflow.log_param("again", "yes")
    assert client.get_run(run.info.run_id).info.status == "FINISHED"


def test_tables_grow_and_are_read_back(client, experiment):
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_table({"hour": [1, 2], "oxygen": [8.25, 8.5]}, "readings.json")
        mlflow.log_table(pd.DataFrame({"hour": [3], "oxygen": [7.75]}), "readings.json")
    table = mlflow.load_table("readings.json", run_ids=[run.info.run_id], extra_columns=["run_id"])
    assert table["hour"].tolist() == [1, 2, 3] and table["oxygen"].tolist() == [8.25, 8.5, 7.75]
    assert set(table["run_id"]) == {run.info.run_id}
    assert "readings.json" in client.get_run(run.info.run_id).data.tags["mlflow.loggedArtifacts"]


def test_figures_images_and_dictionaries_are_files(client, experiment, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 3, 2])
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_figure(figure, "plots/oxygen.png")
        mlflow.log_image(np.zeros((8, 12, 3), dtype=np.uint8), "pen.png")
        mlflow.log_image(np.full((8, 12, 3), 200, dtype=np.uint8), key="camera", step=3)
        mlflow.log_dict({"pen": 7}, "pen.yaml")
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files >= {"plots", "pen.png", "images", "pen.yaml"}
    png = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/plots/oxygen.png", dst_path=str(tmp_path))
    assert Path(png).read_bytes().startswith(b"\x89PNG")
    assert mlflow.artifacts.load_image(f"{run.info.artifact_uri}/pen.png").size == (12, 8)
    [full] = [one for one in client.list_artifacts(run.info.run_id, "images") if one.path.endswith(".png")]
    assert "camera" in full.path and "step" in full.path
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/pen.yaml") == "pen: 7\n"


def test_data_sets_of_every_form_are_inputs(client, experiment, readings):
    x, y = readings
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_input(mlflow.data.from_pandas(x, name="frame", targets=None), context="training")
        mlflow.log_input(mlflow.data.from_numpy(x.to_numpy(), targets=y.to_numpy(), name="array"), context="test")
        # The same once more is no second input.
        mlflow.log_input(mlflow.data.from_pandas(x, name="frame"), context="training")
    inputs = client.get_run(run.info.run_id).inputs.dataset_inputs
    contexts = {one.dataset.name: {tag.key: tag.value for tag in one.tags}["mlflow.data.context"] for one in inputs}
    assert contexts == {"frame": "training", "array": "test"} and len(inputs) == 2
    source = mlflow.data.get_source(next(one.dataset for one in inputs if one.dataset.name == "frame"))
    assert source is not None
    found = mlflow.search_runs([experiment], "dataset.name = 'array'")
    assert found["run_id"].tolist() == [run.info.run_id]


BOOSTED = """
    import sys

    import lightgbm
    import mlflow
    import numpy as np
    import pandas as pd

    mlflow.set_experiment(sys.argv[1])
    mlflow.lightgbm.autolog(registered_model_name=sys.argv[1], log_input_examples=True, silent=True)
    rng = np.random.default_rng(5)
    x = pd.DataFrame(rng.normal(size=(120, 2)), columns=["temperature", "salinity"])
    y = 3 * x["temperature"]
    data = lightgbm.Dataset(x[:100], y[:100])
    held_out = lightgbm.Dataset(x[100:], y[100:], reference=data)
    settings = {"objective": "regression", "metric": "l2", "num_leaves": 4, "verbose": -1, "num_threads": 1}
    lightgbm.train(settings, data, num_boost_round=12, valid_sets=[held_out], valid_names=["held out"])
    run = mlflow.last_active_run()
    loaded = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}/1")
    assert loaded.predict(x[:3]).shape == (3,)
    print("run", run.info.run_id)
"""


def test_autolog_of_a_booster_in_an_environment_of_its_own(client):
    python = os.environ.get("FISHY_PYTHON_LIGHTGBM")
    assert python, "FISHY_PYTHON_LIGHTGBM names the interpreter with LightGBM: cargo xtask test sets it"
    name = f"boosted-{uuid.uuid4().hex[:12]}"
    command = [python, "-c", textwrap.dedent(BOOSTED), name]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    print(ended.stderr, file=sys.stderr)
    assert ended.returncode == 0, ended.stderr[-2000:]
    run_id = ended.stdout.split()[-1]
    run = client.get_run(run_id)
    assert run.data.params["num_leaves"] == "4" and run.data.params["num_boost_round"] == "12"
    [metric] = [key for key in run.data.metrics if key.startswith("held out")]
    history = client.get_metric_history(run_id, metric)
    assert [point.step for point in history] == list(range(12)) and history[0].value > history[-1].value
    files = {file.path for file in client.list_artifacts(run_id)}
    assert any(path.startswith("feature_importance") for path in files), files
    assert client.get_model_version(name, "1").run_id == run_id
