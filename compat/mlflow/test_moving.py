"""`fishy registry import` and `sync`: a real MLflow server, filled by the unmodified client, is copied into fishy, and
the unmodified client reads the same from both."""

import contextlib
import hashlib
import json
import math
import os
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from differential.sides import fishy_binary, free_port, stop, wait_for
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    ViewType,
)
from own_server import Server, until

BINARY = fishy_binary()


@pytest.fixture
def there(tmp_path):
    """A real MLflow server."""
    folder = tmp_path / "mlflow"
    folder.mkdir()
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    quiet = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_TRACKING_URI": "",
        "MLFLOW_REGISTRY_URI": "",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=os.environ | quiet,
            start_new_session=True,
        )
        try:
            wait_for(f"http://127.0.0.1:{port}", process, folder / "log")
            url = f"http://127.0.0.1:{port}"
            yield MlflowClient(url, url)
        finally:
            stop(process)


@pytest.fixture
def here(tmp_path):
    """A fishy with nothing in it."""
    folder = tmp_path / "fishy"
    folder.mkdir()
    server = Server(str(BINARY), folder)
    server.start()
    yield MlflowClient(server.url, server.url)
    server.process.kill()
    server.process.wait()


def command(verb, there_url, here_url, *more):
    return [
        str(BINARY),
        "registry",
        verb,
        "--from",
        there_url,
        "--url",
        here_url,
        "--output",
        "json",
        *more,
    ]


def moved(verb, there, here, *more):
    """The report of a copy that succeeds."""
    line = command(verb, there.tracking_uri, here.tracking_uri, *more)
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def numbers(report, field):
    return {kind: count[field] for kind, count in report["counts"].items()}


def fill(client, folder):
    """One of everything; gives the ids of a run and of an experiment."""
    experiment = client.create_experiment("pens", tags={"farm": "north"})
    run = client.create_run(experiment, start_time=1_700_000_000_123, run_name="first", tags={"a": "b"}).info.run_id
    client.log_batch(
        run,
        metrics=[Metric("loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(900)],
        params=[Param("depth", "3"), Param("rate", "0.1")],
    )
    client.log_batch(
        run,
        metrics=[Metric("loss", 2.5, 1_700_000_100_000, step) for step in range(700)],
    )
    client.log_metric(run, "odd", float("nan"), 5, 1)
    dataset = Dataset("sensors", "abc123", "local", "{}", '{"columns": 3}')
    client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    model = client.create_logged_model(
        experiment,
        "oxygen",
        source_run_id=run,
        tags={"kind": "onnx"},
        params={"p": "1"},
        model_type="regressor",
    )
    weights = folder / "weights"
    (weights / "deep").mkdir(parents=True)
    (weights / "MLmodel").write_text("flavors: {}\n")
    (weights / "deep" / "a b.bin").write_bytes(os.urandom(300_000))
    (weights / "empty").write_bytes(b"")
    client.log_model_artifacts(model.model_id, str(weights))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run, [LoggedModelOutput(model.model_id, 4)])
    client.log_metric(run, "mae", 0.25, 7, 2, model_id=model.model_id)
    client.log_artifacts(run, str(weights), "files")
    client.set_terminated(run, "FAILED", 1_700_000_200_000)
    for number in range(3):
        other = client.create_run("0", run_name=f"other {number}").info.run_id
        client.log_text(other, f"text {number}", "notes/text.txt")
    client.delete_run(other)
    client.delete_experiment(client.create_experiment("gone"))
    client.create_registered_model("oxygen", tags={"owner": "health"}, description="of a pen")
    client.create_model_version(
        "oxygen",
        f"models:/{model.model_id}",
        run,
        tags={"v": "1"},
        model_id=model.model_id,
    )
    client.create_model_version("oxygen", f"runs:/{run}/files", run, description="second")
    client.create_model_version("oxygen", f"runs:/{run}/files", run)
    client.delete_model_version("oxygen", "2")
    client.transition_model_version_stage("oxygen", "1", "Production")
    client.set_registered_model_alias("oxygen", "champion", "1")
    client.set_registered_model_alias("oxygen", "challenger", "3")
    return experiment, run


def contents(folder):
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def plain(thing):
    """Everything a thing of the client has, without the order of lists."""
    if isinstance(thing, float) and math.isnan(thing):
        return "NaN"
    if isinstance(thing, dict):
        return {key: plain(value) for key, value in sorted(thing.items())}
    if isinstance(thing, list | tuple):
        return sorted((plain(item) for item in thing), key=repr)
    if type(thing).__module__.startswith("mlflow."):
        return {key: plain(value) for key, value in vars(thing).items()}
    return thing


def everything(client, folder):
    """All that the client can read of a server."""
    url = client.tracking_uri
    experiments = client.search_experiments(ViewType.ALL)
    ids = [experiment.experiment_id for experiment in experiments]
    runs = [client.get_run(run.info.run_id) for run in client.search_runs(ids, run_view_type=ViewType.ALL)]
    found = {
        "experiments": experiments,
        "runs": runs,
        "histories": {
            (run.info.run_id, key): client.get_metric_history(run.info.run_id, key)
            for run in runs
            for key in run.data.metrics
        },
        "logged models": list(client.search_logged_models(ids)),
        "models": [client.get_registered_model(model.name) for model in client.search_registered_models()],
        "versions": [client.get_model_version(each.name, each.version) for each in client.search_model_versions()],
    }
    for model in found["models"]:
        # Fishy tells the aliases of these too; the versions are compared by themselves.
        model._latest_version = None
    found["files"] = {}
    for run in runs:
        into = folder / run.info.run_id
        into.mkdir(parents=True)
        with contextlib.suppress(FileNotFoundError):
            client.download_artifacts(run.info.run_id, "", str(into))
        found["files"][run.info.run_id] = contents(into)
    for version in found["versions"]:
        into = folder / f"version {version.version}"
        uri = client.get_model_version_download_uri(version.name, version.version)
        mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(into), tracking_uri=url)
        found["files"][f"version {version.version}"] = contents(into)
    return {kind: plain(value) for kind, value in found.items()}


def assert_same(there, here, folder):
    theirs, ours = (
        everything(there, folder / "there"),
        everything(here, folder / "here"),
    )
    for kind, expected in theirs.items():
        assert ours[kind] == expected, kind
    return ours


def test_a_whole_server_is_copied_and_followed(there, here, tmp_path):
    experiment, run = fill(there, tmp_path)
    report = moved("import", there, here)
    expected = {"experiment": 3, "logged_model": 1, "run": 4, "model": 1, "version": 2}
    assert numbers(report, "found") == numbers(report, "copied") == numbers(report, "here") == expected
    assert report["points"] == 1602 and report["files"] == 9 and not report["problems"] and not report["renumbered"]
    ours = assert_same(there, here, tmp_path / "first")
    assert len(ours["files"][run]) == 3 and ours["files"]["version 1"], "there is something to compare"
    assert len(ours["histories"][(run, "loss")]) == 1600

    report = moved("sync", there, here)
    assert not any(numbers(report, "copied").values()) and report["files"] == report["points"] == 0
    assert numbers(report, "unchanged") == expected

    there.log_metric(run, "loss", 0.125, 1_700_000_300_000, 5)
    there.log_metric(run, "loss", 0.5, 1_700_000_300_000, 10_000)
    there.set_tag(run, "a", "c")
    there.log_text(run, "late", "late.txt")
    there.create_run(experiment, run_name="new")
    there.rename_experiment(experiment, "all pens")
    there.set_registered_model_alias("oxygen", "champion", "3")
    there.delete_registered_model_alias("oxygen", "challenger")
    there.set_model_version_tag("oxygen", "3", "checked", "yes")
    report = moved("sync", there, here)
    assert numbers(report, "copied") == {
        "experiment": 1,
        "logged_model": 0,
        "run": 2,
        "model": 1,
        "version": 1,
    }
    assert report["aliases"] == 2
    assert_same(there, here, tmp_path / "second")
    # Nothing that the server tells of a run changes when something is logged below the last step.
    there.log_metric(run, "loss", 0.25, 1_700_000_400_000, 6)
    assert numbers(moved("sync", there, here), "copied")["run"] == 0
    assert numbers(moved("sync", there, here, "--thorough"), "copied")["run"] == 1
    assert_same(there, here, tmp_path / "third")
    # What is made here afterwards collides with nothing.
    assert int(here.create_experiment("ours")) > int(experiment)
    assert here.create_model_version("oxygen", f"runs:/{run}/files", run).version == "4"


def test_a_killed_import_goes_on_and_nothing_is_double(there, here, tmp_path):
    ours = here.create_experiment("ours")
    experiment = there.create_experiment("many")
    assert experiment == ours, "their id is taken here"
    for number in range(40):
        run = there.create_run(experiment, run_name=f"run {number}").info.run_id
        there.log_batch(run, metrics=[Metric("loss", step, step, step) for step in range(50)])
        there.log_text(run, "x" * 10_000, "text.txt")
    counts = f"{here.tracking_uri}/api/v1/registry/imports?source={there.tracking_uri}"

    def whole():
        with urllib.request.urlopen(counts) as answer:
            return json.load(answer)["run"]

    first = subprocess.Popen(
        command("import", there.tracking_uri, here.tracking_uri),
        stdout=subprocess.DEVNULL,
    )
    until("a few runs", lambda: whole() >= 5 or first.poll() is not None)
    first.kill()
    first.wait()
    before = whole()
    assert 5 <= before < 40, "it was stopped in the middle"
    report = moved("import", there, here)
    run = report["counts"]["run"]
    assert (run["found"], run["unchanged"], run["here"]) == (40, before, 40)
    copy = report["renumbered"][experiment]
    runs = here.search_runs([copy])
    assert len(runs) == 40 and not here.search_runs([ours])
    for run in runs:
        assert len(here.get_metric_history(run.info.run_id, "loss")) == 50
        assert [file.path for file in here.list_artifacts(run.info.run_id)] == ["text.txt"]


def test_what_is_here_already_is_not_overwritten(there, here):
    for client in (there, here):
        client.create_registered_model("oxygen", description=client.tracking_uri)
        client.create_experiment("pens")
    line = command("import", there.tracking_uri, here.tracking_uri)
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    problems = {problem["kind"]: problem["why"] for problem in json.loads(done.stdout)["problems"]}
    assert "does not come from" in problems["model"] and "rename one of them" in problems["experiment"]
    assert here.get_registered_model("oxygen").description == here.tracking_uri
    line = command("sync", "http://127.0.0.1:9", here.tracking_uri)
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1 and "use fishy registry import first" in done.stderr


def test_a_list_without_an_end_is_left(here):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b'{"experiments": [], "next_page_token": "again"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    line = command("import", f"http://127.0.0.1:{server.server_port}", here.tracking_uri)
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "has no end" in done.stderr, done.stderr
    server.shutdown()


def test_the_token_is_sent_and_a_busy_server_is_asked_again(here, tmp_path):
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append((self.path.split("?")[0], self.headers["Authorization"]))
            is_known = self.headers["Authorization"] == "Bearer a-secret"
            status = 401 if not is_known else 429 if len(seen) < 3 else 200
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_GET(self):
            self.answer()

        def do_POST(self):
            self.answer()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    (tmp_path / "token").write_text("a-secret\n")
    line = command("import", url, here.tracking_uri, "--token-file", str(tmp_path / "token"))
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.rsplit("/", 2)[-2] for path, _ in seen] == ["experiments"] * 3 + ["registered-models"]
    line = command("import", url, here.tracking_uri, "--token-env", "OTHER_TOKEN")
    environment = os.environ | {"OTHER_TOKEN": "wrong-secret"}
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 1 and "401" in done.stderr and "secret" not in done.stderr + done.stdout
    server.shutdown()
