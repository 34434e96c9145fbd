"""The last client of MLflow 2, in an environment of its own, against the running server."""

import os
import subprocess
import sys
import textwrap
import uuid

PROGRAM = """
    import sys

    import mlflow
    from mlflow.tracking import MlflowClient
    from sklearn.linear_model import LinearRegression

    assert mlflow.__version__.startswith("2."), mlflow.__version__
    name = sys.argv[1]
    mlflow.set_experiment(name)
    model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    with mlflow.start_run() as run:
        mlflow.log_params({"depth": 3})
        mlflow.log_metric("mae", 0.25, step=1)
        mlflow.set_tag("pen", "7")
        mlflow.log_dict({"a": 1}, "config/a.json")
        mlflow.sklearn.log_model(model, "model", registered_model_name=name, input_example=[[0.5]])
    client = MlflowClient()
    found = client.search_runs([run.info.experiment_id], "metrics.mae < 0.3 and params.depth = '3'")
    assert [one.info.run_id for one in found] == [run.info.run_id]
    assert [point.value for point in client.get_metric_history(run.info.run_id, "mae")] == [0.25]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"config", "model"}
    client.set_registered_model_alias(name, "champion", "1")
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    assert abs(loaded.predict([[2.0]])[0] - 5.0) < 1e-9
    client.transition_model_version_stage(name, "1", "Staging")
    assert client.get_latest_versions(name, ["Staging"])[0].version == "1"
    with mlflow.start_run(run_id=run.info.run_id):
        with mlflow.start_run(nested=True) as child:
            mlflow.log_table({"hour": [1, 2], "oxygen": [8.5, 7.5]}, "readings.json")
    assert mlflow.load_table("readings.json", run_ids=[child.info.run_id])["oxygen"].tolist() == [8.5, 7.5]
    assert client.get_parent_run(child.info.run_id).info.run_id == run.info.run_id
    client.delete_run(child.info.run_id)
    assert client.get_run(child.info.run_id).info.lifecycle_stage == "deleted"
    client.restore_run(child.info.run_id)
    page = client.search_runs([run.info.experiment_id], max_results=1)
    rest = client.search_runs([run.info.experiment_id], max_results=1, page_token=page.token)
    assert {one.info.run_id for one in [*page, *rest]} == {run.info.run_id, child.info.run_id}
    print("done")
"""


def test_a_client_of_mlflow_2_works():
    python = os.environ.get("FISHY_PYTHON_MLFLOW2")
    assert python, "FISHY_PYTHON_MLFLOW2 names the interpreter with MLflow 2: cargo xtask test sets it"
    code = textwrap.dedent(PROGRAM)
    ended = subprocess.run(
        [python, "-c", code, f"compat2-{uuid.uuid4().hex[:12]}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(ended.stderr, file=sys.stderr)
    assert ended.returncode == 0 and ended.stdout.strip().endswith("done"), ended.stderr[-2000:]
