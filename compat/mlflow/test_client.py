"""The unmodified `mlflow` package against a running fishy: `FISHY_URL=http://127.0.0.1:5000 pytest test_client.py`.

Every test makes things of its own names, so that it can run again against the same server.
"""

import json
import math
import os
import time
import urllib.error
import urllib.request
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
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.models import infer_signature  # noqa: E402


@pytest.fixture(scope="session")
def client():
    mlflow.set_tracking_uri(URL)
    mlflow.set_registry_uri(URL)
    return MlflowClient(URL, URL)


@pytest.fixture
def name():
    return f"compat-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def experiment(client, name):
    return client.create_experiment(name, tags={"farm": "north"})


@pytest.fixture(scope="session")
def trained():
    from sklearn.linear_model import LinearRegression

    rng = np.random.default_rng(7)
    x = pd.DataFrame(rng.normal(size=(64, 3)), columns=["temperature", "salinity", "ph"])
    y = 3 * x["temperature"] - x["salinity"] + 0.5
    return LinearRegression().fit(x, y), x, y


def call(method, path, body=None, content_type="application/json"):
    """Status and body of a raw request."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, method=method)
    if data is not None:
        request.add_header("Content-Type", content_type)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def refused(error_code):
    """Expects an MlflowException of this code."""

    class Refused:
        def __enter__(self):
            self.raised = pytest.raises(MlflowException)
            self.info = self.raised.__enter__()
            return self.info

        def __exit__(self, *what):
            done = self.raised.__exit__(*what)
            assert self.info.value.error_code == error_code, self.info.value
            return done

    return Refused()


# Experiments


def test_experiments_live_die_and_come_back(client, name, experiment):
    found = client.get_experiment(experiment)
    assert found.name == name and found.tags == {"farm": "north"} and found.lifecycle_stage == "active"
    assert found.artifact_location == f"mlflow-artifacts:/{experiment}"
    assert client.get_experiment_by_name(name).experiment_id == experiment
    assert client.get_experiment_by_name(name + "-none") is None
    client.rename_experiment(experiment, name + "-new")
    client.set_experiment_tag(experiment, "pen", "7")
    client.delete_experiment_tag(experiment, "farm")
    assert client.get_experiment(experiment).tags == {"pen": "7"}
    run = client.create_run(experiment)
    client.delete_experiment(experiment)
    assert client.get_experiment(experiment).lifecycle_stage == "deleted"
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    with refused("INVALID_PARAMETER_VALUE"):
        client.create_run(experiment)
    client.restore_experiment(experiment)
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "active"
    with refused("RESOURCE_ALREADY_EXISTS"):
        client.create_experiment(name + "-new")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_experiment("987654321")


def test_the_default_experiment_exists(client):
    assert client.get_experiment("0").name == "Default"


def test_search_experiments(client, name):
    ids = [client.create_experiment(f"{name}-{i}", tags={"i": str(i), "of": name}) for i in range(5)]
    mine = f"tags.of = '{name}'"

    def search(extra="", **kwargs):
        found = client.search_experiments(filter_string=mine + extra, **kwargs)
        return [e.name.rsplit("-", 1)[1] for e in found]

    assert sorted(search()) == ["0", "1", "2", "3", "4"]
    assert search(f" AND name = '{name}-3'") == ["3"]
    assert search(f" AND name LIKE '{name}-%' AND tags.i != '1'", order_by=["name ASC"]) == ["0", "2", "3", "4"]
    assert search(f" AND name ILIKE '{name.upper()}-2'") == ["2"]
    assert search(" AND tags.none IS NULL", order_by=["name DESC"]) == ["4", "3", "2", "1", "0"]
    assert search(" AND tags.i IS NOT NULL AND creation_time > 0", order_by=["experiment_id"])[0] == "0"
    first = client.search_experiments(filter_string=mine, max_results=2, order_by=["name"])
    second = client.search_experiments(filter_string=mine, max_results=2, order_by=["name"], page_token=first.token)
    third = client.search_experiments(filter_string=mine, max_results=2, order_by=["name"], page_token=second.token)
    assert [e.name[-1] for e in [*first, *second, *third]] == list("01234") and not third.token
    client.delete_experiment(ids[0])
    assert search(view_type=ViewType.DELETED_ONLY) == ["0"]
    assert len(search(view_type=ViewType.ALL)) == 5


# Runs


def test_a_run_from_start_to_end(client, experiment):
    with mlflow.start_run(experiment_id=experiment, run_name="first", tags={"a": "b"}) as active:
        run_id = active.info.run_id
        mlflow.log_param("depth", 3)
        mlflow.log_params({"rate": 0.1, "kind": "forest"})
        for step in range(3):
            mlflow.log_metric("rmse", 1.0 / (step + 1), step=step)
        mlflow.log_metrics({"nan": float("nan"), "inf": float("inf"), "minus": float("-inf")})
        mlflow.set_tag("stage", "test")
        mlflow.log_dict({"x": 1}, "config/settings.json")
        mlflow.log_text("hello", "notes.txt")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "first" and run.info.end_time
    assert run.data.params == {"depth": "3", "rate": "0.1", "kind": "forest"}
    assert run.data.metrics["rmse"] == pytest.approx(1 / 3)
    assert math.isnan(run.data.metrics["nan"])
    assert run.data.metrics["inf"] == 1.7976931348623157e308 == -run.data.metrics["minus"]
    assert run.data.tags["stage"] == "test" and run.data.tags["a"] == "b"
    history = client.get_metric_history(run_id, "rmse")
    assert [(m.step, m.value) for m in history] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert {f.path: f.is_dir for f in client.list_artifacts(run_id)} == {"config": True, "notes.txt": False}
    assert [(f.path, f.file_size) for f in client.list_artifacts(run_id, "config")] == [("config/settings.json", 12)]
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes.txt") == "hello"
    client.set_terminated(run_id, "FAILED")
    client.update_run(run_id, name="renamed")
    assert client.get_run(run_id).info.run_name == "renamed" == client.get_run(run_id).data.tags["mlflow.runName"]
    client.delete_tag(run_id, "stage")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.delete_tag(run_id, "stage")
    client.delete_run(run_id)
    with refused("INVALID_PARAMETER_VALUE"):
        client.log_metric(run_id, "rmse", 1)
    client.restore_run(run_id)
    client.log_metric(run_id, "rmse", 1)


def test_batches_are_all_or_nothing(client, experiment):
    run_id = client.create_run(experiment).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric(f"m{i % 10}", float(i), now + i, i) for i in range(995)]
    client.log_batch(run_id, metrics, [Param("p", "1")], [RunTag("t", "1"), RunTag("t", "2")])
    client.log_batch(run_id, metrics[:10], [Param("p", "1")])
    data = client.get_run(run_id).data
    assert data.metrics["m4"] == 994 and data.params == {"p": "1"} and data.tags["t"] == "2"
    assert len(client.get_metric_history(run_id, "m4")) == 100, "the same point again is kept once"
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        client.log_batch(run_id, [Metric("other", 1.0, now, 0)], [Param("p", "2"), Param("q", "1")])
    data = client.get_run(run_id).data
    assert "other" not in data.metrics and "q" not in data.params
    client.log_metric(run_id, "m4", -1.0, timestamp=now, step=3)
    assert client.get_run(run_id).data.metrics["m4"] == 994, "the latest has the greatest step"


def test_limits_and_malformed_requests(client, experiment):
    run_id = client.create_run(experiment).info.run_id
    batch = "/api/2.0/mlflow/runs/log-batch"
    point = {"key": "a", "value": 1, "timestamp": 1, "step": 0}
    for body in [
        {"run_id": run_id, "metrics": [point] * 1001},
        {"run_id": run_id, "params": [{"key": f"p{i}", "value": "1"} for i in range(101)]},
        {"run_id": run_id, "params": [{"key": "p", "value": "1"}] * 2},
        {"run_id": run_id, "metrics": [{**point, "key": "../a"}]},
        {"run_id": run_id, "metrics": [{**point, "key": "a" * 251}]},
        {"run_id": run_id, "metrics": [{**point, "value": "many"}]},
        {"run_id": run_id, "metrics": [{**point, "timestamp": -1}]},
        {"run_id": run_id, "metrics": "none"},
        {"run_id": run_id, "tags": [{"key": "t", "value": "x" * 1_000_000}]},
        {"run_id": 7},
        {},
        b"notjson",
        b'{"run_id": "%s", "metrics": [{"key": "a", "value": NaN, "timestamp": 1}]}' % run_id.encode(),
        b'{"run_id": "%s", "metrics": [{"key": "a", "value": 1e400, "timestamp": 1}]}' % run_id.encode(),
    ]:
        status, answer = call("POST", batch, body)
        assert status == 400, (body if len(str(body)) < 200 else str(body)[:200], answer)
        assert json.loads(answer)["error_code"] == "INVALID_PARAMETER_VALUE"
    assert call("POST", batch, b"{}", content_type="text/plain")[0] == 400
    data = client.get_run(run_id).data
    assert not data.metrics and not data.params
    client.log_param(run_id, "long", "x" * 6001)
    assert len(client.get_run(run_id).data.params["long"]) == 6000


def test_search_runs(client, name, experiment):
    base = int(time.time() * 1000)
    ids = []
    for i in range(6):
        run = client.create_run(experiment, start_time=base + i, run_name=f"run-{i}", tags={"i": str(i), "user": "Ada"})
        ids.append(run.info.run_id)
        client.log_metric(run.info.run_id, "rmse", float("nan") if i == 5 else i / 10)
        if i != 4:
            client.log_param(run.info.run_id, "depth", i % 2)
    client.log_metric(ids[0], "val/loss of all", 1)
    client.set_terminated(ids[1])
    dataset = Dataset("estuary", "abc123", "local", "{}", schema="{}", profile="{}")
    client.log_inputs(ids[2], [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def search(filter_string="", **kwargs):
        return [ids.index(r.info.run_id) for r in client.search_runs([experiment], filter_string, **kwargs)]

    assert search() == [5, 4, 3, 2, 1, 0]
    for filter_string, expected in [
        ("metrics.rmse > 0.2", [4, 3]),
        ("metric.rmse >= 0.2 and metrics.rmse <= 0.3", [3, 2]),
        ("metrics.rmse != 0.2 AND metrics.rmse < 10", [4, 3, 1, 0]),
        ("metrics.`val/loss of all` = 1", [0]),
        ('metrics."val/loss of all" = 1', [0]),
        ("params.depth = '1'", [5, 3, 1]),
        ("params.depth != '1'", [2, 0]),
        ("parameters.depth IS NULL", [4]),
        ("tags.i IN ('1')", None),
        ("tags.`user` = 'Ada' and tag.i LIKE '_'", [5, 4, 3, 2, 1, 0]),
        ("tags.user LIKE 'ada'", []),
        ("tags.user ILIKE 'aD%'", [5, 4, 3, 2, 1, 0]),
        ("tags.none IS NOT NULL", []),
        ("status = 'FINISHED'", [1]),
        ("attributes.status != 'FINISHED'", [5, 4, 3, 2, 0]),
        ("attributes.run_name LIKE 'run-%' and attr.`Run name` != 'run-2'", [5, 4, 3, 1, 0]),
        (f"start_time > {base + 3}", [5, 4]),
        (f"attributes.start_time <= {base}", [0]),
        ("end_time > 0", [1]),
        (f"run_id IN ('{ids[0]}', '{ids[3]}')", [3, 0]),
        (f"attributes.run_id NOT IN ('{ids[0]}', '{ids[3]}')", [5, 4, 2, 1]),
        ("dataset.name = 'estuary' and datasets.context = 'training'", [2]),
        ("dataset.digest LIKE 'abc%'", [2]),
        ("dataset.name IN ('other')", []),
    ]:
        if expected is None:
            with refused("INVALID_PARAMETER_VALUE"):
                search(filter_string)
        else:
            assert search(filter_string) == expected, filter_string
    for order_by, expected in [
        (["metrics.rmse ASC"], [0, 1, 2, 3, 4, 5]),
        (["metrics.rmse DESC"], [4, 3, 2, 1, 0, 5]),
        (["params.depth ASC", "start_time ASC"], [0, 2, 1, 3, 5, 4]),
        (["params.depth DESC"], [5, 3, 1, 2, 0, 4]),
        (["attributes.start_time ASC"], [0, 1, 2, 3, 4, 5]),
        (["tags.i DESC"], [5, 4, 3, 2, 1, 0]),
        (["end_time DESC"], [1, 5, 4, 3, 2, 0]),
    ]:
        assert search(order_by=order_by) == expected, order_by
    for order_by in [None, ["metrics.rmse DESC"]]:
        seen, token = [], None
        while True:
            page = client.search_runs([experiment], max_results=2, order_by=order_by, page_token=token)
            assert len(page) <= 2
            seen += [ids.index(r.info.run_id) for r in page]
            token = page.token
            if not token:
                break
        assert seen == search(order_by=order_by)
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_runs([experiment], page_token="nonsense")
    with refused("INVALID_PARAMETER_VALUE"):
        search("metrics.rmse > 1 OR metrics.rmse < 0")
    client.delete_run(ids[3])
    assert search(run_view_type=ViewType.DELETED_ONLY) == [3]
    frame = mlflow.search_runs([experiment], "metrics.rmse < 1", order_by=["metrics.rmse"])
    assert list(frame["metrics.rmse"]) == [0.0, 0.1, 0.2, 0.4]


def test_inputs_and_metric_histories(client, experiment, trained):
    _, x, _ = trained
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_input(mlflow.data.from_pandas(x, name="water"), context="training", tags={"pen": "7"})
        for step in range(50):
            mlflow.log_metric("loss", 50 - step, step=step)
    got = client.get_run(run.info.run_id)
    [dataset_input] = got.inputs.dataset_inputs
    assert dataset_input.dataset.name == "water" and "temperature" in dataset_input.dataset.schema
    assert {t.key: t.value for t in dataset_input.tags} == {"mlflow.data.context": "training", "pen": "7"}
    run_id = run.info.run_id
    status, answer = call("GET", f"/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=loss&max_results=20")
    page = json.loads(answer)
    assert status == 200 and len(page["metrics"]) == 20 and page["next_page_token"]
    status, answer = call("GET", f"/ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id={run_id}&metric_key=loss")
    assert status == 200 and len(json.loads(answer)["metrics"]) == 50
    path = f"/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?run_ids={run_id}&metric_key=loss&max_results=10"
    status, answer = call("GET", path)
    steps = [m["step"] for m in json.loads(answer)["metrics"]]
    assert status == 200 and 2 <= len(steps) <= 12 and steps[0] == 0 and steps[-1] == 49


# Artifacts


def test_artifacts_go_up_and_down_unchanged(client, experiment, tmp_path):
    run_id = client.create_run(experiment).info.run_id
    content = os.urandom(3_000_000)
    folder = tmp_path / "up" / "a b" / "größe"
    folder.mkdir(parents=True)
    (folder / "big 100%.bin").write_bytes(content)
    (tmp_path / "up" / "empty").write_bytes(b"")
    client.log_artifacts(run_id, str(tmp_path / "up"), "files")
    down = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="files", dst_path=str(tmp_path / "down"))
    assert (tmp_path / "down" / "files" / "a b" / "größe" / "big 100%.bin").read_bytes() == content
    assert (tmp_path / "down" / "files" / "empty").read_bytes() == b"" and down
    client.log_text(run_id, "one", "x.txt")
    client.log_text(run_id, "two", "x.txt")
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/x.txt") == "two"
    with pytest.raises(Exception, match=r"Failed to download|No such artifact|404"):
        mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="none.txt")
    root = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run_id}/artifacts"
    assert call("DELETE", f"{root}/x.txt")[0] == 200
    assert call("DELETE", f"{root}/x.txt")[0] == 404
    assert call("DELETE", f"{root}/files")[0] == 200
    assert client.list_artifacts(run_id) == []


def test_paths_that_leave_the_store_are_refused(client, experiment):
    door = "/api/2.0/mlflow-artifacts/artifacts"
    for path in ["..%2F..%2Fetc%2Fpasswd", "a/%2e%2e/b", "%2Fetc%2Fpasswd", "a%2F%2Fb", "a%5C..%5Cb", "a/%252e%252e/b"]:
        for method, body in [("GET", None), ("PUT", b"x"), ("DELETE", None)]:
            status, answer = call(method, f"{door}/{path}", body, "application/octet-stream")
            assert status in (400, 404), (method, path, answer)
    assert call("GET", f"{door}?path=../..")[0] == 400
    run_id = client.create_run(experiment).info.run_id
    assert call("GET", f"/ajax-api/2.0/mlflow/artifacts/list?run_id={run_id}&path=../..")[0] == 400


# Models


def register(client, trained, experiment, name, flavor="onnx"):
    """Logs a model and registers it as the training path does; answers the logged model and the version."""
    model, x, _ = trained
    signature = infer_signature(x, model.predict(x))
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_metric("rmse", 0.25)
        if flavor == "onnx":
            from skl2onnx import to_onnx

            onnx_model = to_onnx(model, x.to_numpy(np.float32)[:1])
            signature = infer_signature(x.to_numpy(np.float32), model.predict(x).astype(np.float32).reshape(-1, 1))
            example = x.to_numpy(np.float32)[:2]
            info = mlflow.onnx.log_model(onnx_model, name="model", signature=signature, input_example=example)
        else:
            info = mlflow.sklearn.log_model(model, name="model", signature=signature, input_example=x[:2])
    version = mlflow.register_model(info.model_uri, name, tags={"window": "2012-01"})
    return run, info, version


@pytest.mark.parametrize("flavor", ["onnx", "sklearn"])
def test_a_model_is_logged_registered_aliased_and_loaded(client, trained, experiment, name, flavor):
    model, x, _ = trained
    run, info, version = register(client, trained, experiment, name, flavor)
    assert version.version in ("1", 1) and version.status == "READY"
    client.set_registered_model_alias(name, "champion", version.version)
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    expected = model.predict(x)
    got = loaded.predict(x.to_numpy(np.float32) if flavor == "onnx" else x)
    got = np.asarray(next(iter(got.values())) if isinstance(got, dict) else got).ravel()
    assert np.allclose(got, expected, atol=1e-4)
    assert loaded.metadata.signature is not None
    if flavor == "onnx":
        assert mlflow.onnx.load_model(f"models:/{name}/1").graph.input
    by_alias = client.get_model_version_by_alias(name, "champion")
    assert (by_alias.run_id, by_alias.tags, by_alias.aliases) == (run.info.run_id, {"window": "2012-01"}, ["champion"])
    # The client does not read the logged model's id out of the answer.
    status, answer = call("GET", f"/api/2.0/mlflow/model-versions/get?name={name}&version=1")
    assert json.loads(answer)["model_version"]["model_id"] == info.model_id
    logged = client.get_logged_model(info.model_id)
    assert str(logged.status) in ("LoggedModelStatus.READY", "READY") and logged.source_run_id == run.info.run_id
    outputs = client.get_run(run.info.run_id).outputs.model_outputs
    assert [o.model_id for o in outputs] == [info.model_id]
    assert "MLmodel" in [f.path for f in client.list_logged_model_artifacts(info.model_id)]
    status, answer = call("GET", f"/api/v1/registry/models/{name}/versions/1/files")
    files = {f["path"]: f for f in json.loads(answer)["items"]}
    assert status == 200 and "MLmodel" in files
    import hashlib

    for path, file in files.items():
        local = mlflow.artifacts.download_artifacts(f"models:/{name}/1/{path}")
        content = Path(local).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size_bytes"], file["sha256"])
    # What is registered stays as it is.
    path = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/models/{info.model_id}/artifacts/MLmodel"
    assert call("PUT", path, b"changed", "application/octet-stream")[0] == 400
    assert call("DELETE", path)[0] == 400


def test_log_model_can_register_in_one_call(client, trained, experiment, name):
    model, x, _ = trained
    with mlflow.start_run(experiment_id=experiment):
        mlflow.sklearn.log_model(model, name="model", input_example=x[:2], registered_model_name=name)
        mlflow.sklearn.log_model(model, name="model", registered_model_name=name)
    versions = client.search_model_versions(f"name = '{name}'")
    assert [int(v.version) for v in versions] == [2, 1]
    copy = client.copy_model_version(f"models:/{name}/1", name + "-copy")
    assert mlflow.sklearn.load_model(f"models:/{name}-copy/{copy.version}").coef_.shape == (3,)


def test_a_version_can_be_made_from_a_run_or_a_path(client, trained, experiment, name):
    run, info, _ = register(client, trained, experiment, name, "sklearn")
    run_id = run.info.run_id
    for source in [f"runs:/{run_id}/model", f"models:/{info.model_id}", f"models:/{name}/1"]:
        made = client.create_model_version(name, source, run_id)
        uri = client.get_model_version_download_uri(name, made.version)
        assert uri == client.get_logged_model(info.model_id).artifact_location, source
    client.log_text(run_id, "x", "own/file.txt")
    root = run.info.artifact_uri
    made = client.create_model_version(name, f"{root}/own", run_id)
    assert client.get_model_version_download_uri(name, made.version) == f"{root}/own"
    other = client.create_run(experiment).info.run_id
    for source, of_run in [
        (f"{root}/own", other),
        (f"{root}/own", None),
        (f"{root}/../../x", run_id),
        ("file:///etc", run_id),
        ("/etc", run_id),
        ("s3://bucket/x", run_id),
        (f"runs:/{run_id}/model", other),
        ("models:/m-none", run_id),
        ("mlflow-artifacts://other-host/1/x", run_id),
    ]:
        body = {"name": name, "source": source, **({"run_id": of_run} if of_run else {})}
        status, answer = call("POST", "/api/2.0/mlflow/model-versions/create", body)
        assert status == 400, (source, answer)


def test_registered_models_and_versions(client, trained, experiment, name):
    client.create_registered_model(name, tags={"of": name}, description="oxygen")
    with refused("RESOURCE_ALREADY_EXISTS"):
        client.create_registered_model(name)
    run, info, _ = register(client, trained, experiment, name, "sklearn")
    client.create_model_version(name, info.model_uri, run.info.run_id, description="second")
    client.update_registered_model(name, "better")
    client.set_registered_model_tag(name, "a", "1")
    client.delete_registered_model_tag(name, "of")
    client.set_model_version_tag(name, "2", "b", "2")
    client.update_model_version(name, "2", "changed")
    client.transition_model_version_stage(name, "1", "Production")
    client.transition_model_version_stage(name, "2", "production", archive_existing_versions=True)
    model = client.get_registered_model(name)
    assert model.description == "better" and model.tags == {"a": "1"}
    assert {v.current_stage: v.version for v in model.latest_versions} == {"Archived": "1", "Production": "2"}
    assert [v.version for v in client.get_latest_versions(name, ["Production"])] == ["2"]
    version = client.get_model_version(name, "2")
    assert version.description == "changed" and version.tags["b"] == "2"
    client.delete_model_version_tag(name, "2", "b")
    client.set_registered_model_alias(name, "x", "2")
    client.set_registered_model_alias(name, "x", "1")
    client.set_registered_model_alias(name, "y", "2")
    assert client.get_registered_model(name).aliases == {"x": "1", "y": "2"}
    client.delete_registered_model_alias(name, "x")
    with refused("INVALID_PARAMETER_VALUE"):
        client.get_model_version_by_alias(name, "x")
    for reserved in ["latest", "v3"]:
        with refused("INVALID_PARAMETER_VALUE"):
            client.set_registered_model_alias(name, reserved, "1")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.set_registered_model_alias(name, "z", "9")
    status, answer = call("GET", f"/api/v1/registry/models/{name}/history?kind=alias&key=x")
    assert status == 200
    assert [(m["from"], m["to"]) for m in json.loads(answer)["items"]] == [("1", None), ("2", "1"), (None, "2")]
    client.delete_model_version(name, "2")
    assert client.get_registered_model(name).aliases == {}
    third = client.create_model_version(name, info.model_uri, run.info.run_id)
    assert third.version == "3", "numbers are not given twice"
    client.rename_registered_model(name, name + "-new")
    assert client.get_model_version(name + "-new", "3").version == "3"
    client.delete_registered_model(name + "-new")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_registered_model(name + "-new")


def test_search_models_and_versions(client, trained, experiment, name):
    run, info, _ = register(client, trained, experiment, name + "-0", "sklearn")
    for i in range(1, 4):
        client.create_registered_model(f"{name}-{i}", tags={"i": str(i)})
    for i in range(4):
        client.create_model_version(f"{name}-0", info.model_uri, run.info.run_id, tags={"i": str(i), "a.b": "x"})

    def models(filter_string, **kwargs):
        return [m.name.rsplit("-", 1)[1] for m in client.search_registered_models(filter_string, **kwargs)]

    assert models(f"name LIKE '{name}-%'") == ["0", "1", "2", "3"]
    assert models(f"name LIKE '{name}-%'", order_by=["name DESC"]) == ["3", "2", "1", "0"]
    assert models(f"name ILIKE '{name.upper()}-%' and tags.i != '2'") == ["1", "3"]
    assert models(f"name IN ('{name}-1', '{name}-3')") == ["1", "3"]
    assert models(f"name NOT IN ('{name}-1') and name LIKE '{name}-%'") == ["0", "2", "3"]
    assert models(f"name LIKE '{name}-%'", order_by=["last_updated_timestamp DESC", "name"])[0] == "0"
    page = client.search_registered_models(f"name LIKE '{name}-%'", max_results=3)
    rest = client.search_registered_models(f"name LIKE '{name}-%'", max_results=3, page_token=page.token)
    assert len(page) == 3 and [m.name for m in rest] == [f"{name}-3"] and not rest.token

    def versions(filter_string, **kwargs):
        return [int(v.version) for v in client.search_model_versions(filter_string, **kwargs)]

    of = f"name = '{name}-0'"
    assert versions(of) == [5, 4, 3, 2, 1]
    assert versions(of, order_by=["version_number ASC"]) == [1, 2, 3, 4, 5]
    assert versions(f"{of} and version_number > 3") == [5, 4]
    assert versions(f"{of} and tags.`a.b` = 'x' and tags.i LIKE '_'") == [5, 4, 3, 2]
    assert versions(f"run_id IN ('{run.info.run_id}') and tags.i = '2'") == [4]
    assert versions(f"{of} and source_path LIKE 'models:%'") == [5, 4, 3, 2, 1]
    first = client.search_model_versions(of, max_results=2)
    second = client.search_model_versions(of, max_results=2, page_token=first.token)
    assert [int(v.version) for v in [*first, *second]] == [5, 4, 3, 2]
    for bad in ["name > 'a'", "unknown = 'a'", "tags.x IS NULL"]:
        with refused("INVALID_PARAMETER_VALUE"):
            client.search_model_versions(bad)


def test_logged_models(client, experiment, name):
    made = [
        client.create_logged_model(
            experiment, name=f"net-{i}", model_type="agent" if i else "forest", params={"i": str(i)}, tags={"t": "x"}
        )
        for i in range(4)
    ]
    run_id = client.create_run(experiment).info.run_id
    for i, model in enumerate(made):
        for step in (0, 1):
            client.log_metric(
                run_id,
                "acc",
                i + step / 10,
                step=step,
                model_id=model.model_id,
                dataset_name="sea",
                dataset_digest="d1",
            )
    client.finalize_logged_model(made[0].model_id, "READY")
    client.set_logged_model_tags(made[1].model_id, {"a": "1"})
    client.delete_logged_model_tag(made[1].model_id, "t")
    client.log_model_params(made[1].model_id, {"more": "1"})
    one = client.get_logged_model(made[1].model_id)
    assert one.tags == {"a": "1"} and one.params == {"i": "1", "more": "1"} and len(one.metrics) == 2

    def search(filter_string=None, **kwargs):
        found = client.search_logged_models([experiment], filter_string, **kwargs)
        return [int(m.name[-1]) for m in found]

    ordered = [{"field_name": "name", "ascending": True}]
    assert search(order_by=ordered) == [0, 1, 2, 3]
    assert search("metrics.acc > 2", order_by=ordered) == [2, 3]
    assert search("params.i = '1' AND tags.a = '1'") == [1]
    assert search("name LIKE 'net-%' AND model_type != 'agent'") == [0]
    assert search("status = 'LOGGED_MODEL_READY'") == [0] or search("status = 'READY'") == [0]
    assert search(order_by=[{"field_name": "metrics.acc", "ascending": False}]) == [3, 2, 1, 0]
    assert search(datasets=[{"dataset_name": "sea"}], order_by=ordered) == [0, 1, 2, 3]
    assert search(datasets=[{"dataset_name": "lake"}]) == []
    first = client.search_logged_models([experiment], max_results=3, order_by=ordered)
    second = client.search_logged_models([experiment], max_results=3, order_by=ordered, page_token=first.token)
    assert [int(m.name[-1]) for m in [*first, *second]] == [0, 1, 2, 3] and not second.token
    client.delete_logged_model(made[3].model_id)
    assert search(order_by=ordered) == [0, 1, 2]
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_logged_model(made[3].model_id)


def test_a_protected_alias_moves_only_with_a_promotion(client, trained, experiment, name):
    register(client, trained, experiment, name, "sklearn")
    client.set_registered_model_alias(name, "champion", "1")
    body = {"model": name, "alias": "champion", "deployment": "oxygen"}
    assert call("PUT", "/api/v1/registry/protected-aliases", body)[0] == 200
    assert body in json.loads(call("GET", "/api/v1/registry/protected-aliases")[1])["items"]
    client.create_model_version(name, f"models:/{name}/1")
    with refused("PERMISSION_DENIED") as denied:
        client.set_registered_model_alias(name, "champion", "2")
    assert "oxygen" in str(denied.value)
    for forbidden in [
        lambda: client.delete_registered_model_alias(name, "champion"),
        lambda: client.delete_model_version(name, "1"),
        lambda: client.rename_registered_model(name, name + "-new"),
        lambda: client.delete_registered_model(name),
    ]:
        with refused("PERMISSION_DENIED"):
            forbidden()
    assert client.get_model_version_by_alias(name, "champion").version == "1"
    client.set_registered_model_alias(name, "free", "2")
    client.delete_model_version(name, "2")


# What is around it


def test_the_server_tells_about_itself():
    assert call("GET", "/version") == (200, b"3.17.2")
    for mount in ["/api", "/ajax-api"]:
        status, answer = call("GET", f"{mount}/3.0/mlflow/server-info")
        assert status == 200 and json.loads(answer)["store_type"] == "SqlStore"
    for path, expected, code in [
        ("/api/3.0/mlflow/traces", 501, "NOT_IMPLEMENTED"),
        ("/api/2.0/mlflow/prompts/create", 501, "NOT_IMPLEMENTED"),
        ("/api/2.0/mlflow/no/such/thing", 404, "ENDPOINT_NOT_FOUND"),
    ]:
        status, answer = call("POST", path, {})
        assert (status, json.loads(answer)["error_code"]) == (expected, code)


def test_autolog_works(client, experiment):
    from sklearn.linear_model import Ridge

    mlflow.sklearn.autolog(log_input_examples=True, silent=True)
    try:
        with mlflow.start_run(experiment_id=experiment) as run:
            x = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0) ** 2})
            Ridge().fit(x, x["a"])
    finally:
        mlflow.sklearn.autolog(disable=True)
    data = client.get_run(run.info.run_id).data
    assert data.params["alpha"] == "1.0" and "training_r2_score" in data.metrics
