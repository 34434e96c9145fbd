"""`fishy registry export` and `sync --to`: a fishy, filled by the unmodified client, is copied into a real MLflow
server, and the unmodified client reads the same from both, ids aside."""

import hashlib
import json
import math
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from own_server import Server, until
from test_moving import BINARY, contents, fill, here, numbers, there
from workspace import Workspace

__all__ = ["here", "there"]
TAGS = ["fishy.export.source", "fishy.export.id", "fishy.export.digest"]
OWN = {*TAGS, "fishy.export.created_ms", "fishy.export.user"}


def command(verb, here, there_url, *more):
    line = [str(BINARY), "registry", verb, "--to", there_url, "--url", here.tracking_uri]
    return [*line, "--output", "json", *more]


def exported(verb, here, there, *more):
    """The report of a copy that succeeds."""
    line = command(verb, here, there.tracking_uri, *more)
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def copies(client):
    """Ids of experiments, runs and logged models by the ids that they have where they come from."""
    experiments = client.search_experiments(ViewType.ALL)
    ids = [experiment.experiment_id for experiment in experiments]
    runs = list(client.search_runs(ids, run_view_type=ViewType.ALL, max_results=1000))
    models = list(client.search_logged_models(ids))
    tagged = [(experiment.tags, experiment.experiment_id) for experiment in experiments]
    tagged += [(run.data.tags, run.info.run_id) for run in runs]
    tagged += [(model.tags, model.model_id) for model in models]
    pairs = [(tags["fishy.export.id"], copy) for tags, copy in tagged if "fishy.export.id" in tags]
    assert len(dict(pairs)) == len(pairs), "nothing is there twice"
    return dict(pairs)


def own(tags):
    return {key: value for key, value in tags.items() if key not in OWN}


def number(value):
    return "NaN" if math.isnan(value) else value


def history(client, run, key):
    return sorted((m.step, m.timestamp, number(m.value)) for m in client.get_metric_history(run, key))


def files(client, run, folder):
    folder.mkdir(parents=True)
    if client.list_artifacts(run):
        client.download_artifacts(run, "", str(folder))
    return contents(folder)


def assert_same(here, there, folder):
    ids = copies(there)
    sources = here.search_experiments(ViewType.ALL)
    for ours in sources:
        theirs = there.get_experiment(ids[ours.experiment_id])
        assert (theirs.name, theirs.lifecycle_stage) == (ours.name, ours.lifecycle_stage)
        assert own(theirs.tags) == own(ours.tags)
    every = [experiment.experiment_id for experiment in sources]
    for found in here.search_runs(every, run_view_type=ViewType.ALL):
        run = found.info.run_id
        ours, theirs = here.get_run(run), there.get_run(ids[run])
        for field in ["run_name", "user_id", "status", "start_time", "end_time", "lifecycle_stage"]:
            assert getattr(theirs.info, field) == getattr(ours.info, field), field
        assert theirs.info.experiment_id == ids[ours.info.experiment_id]
        assert theirs.data.params == ours.data.params
        tags = own(ours.data.tags)
        if "mlflow.parentRunId" in tags:
            tags["mlflow.parentRunId"] = ids[tags["mlflow.parentRunId"]]
        assert own(theirs.data.tags) == tags
        assert theirs.data.metrics.keys() == ours.data.metrics.keys()
        for key in ours.data.metrics:
            assert history(there, ids[run], key) == history(here, run, key), key
        inputs = [[vars(each.dataset) for each in side.inputs.dataset_inputs] for side in (ours, theirs)]
        assert inputs[0] == inputs[1]
        outputs = [(ids[each.model_id], each.step) for each in ours.outputs.model_outputs]
        assert [(each.model_id, each.step) for each in theirs.outputs.model_outputs] == outputs
        assert files(there, ids[run], folder / "there" / run) == files(here, run, folder / "here" / run)
    for ours in here.search_logged_models(every):
        theirs = there.get_logged_model(ids[ours.model_id])
        for field in ["name", "model_type", "status", "params"]:
            assert getattr(theirs, field) == getattr(ours, field), field
        assert own(theirs.tags) == own(ours.tags) and theirs.source_run_id == ids[ours.source_run_id]
        measured = [{(m.key, m.value, m.timestamp, m.step) for m in side.metrics or []} for side in (ours, theirs)]
        assert measured[0] == measured[1]
    for model in here.search_registered_models():
        ours, theirs = here.get_registered_model(model.name), there.get_registered_model(model.name)
        assert (theirs.description or "", own(theirs.tags)) == (ours.description or "", own(ours.tags))
        assert theirs.aliases == ours.aliases
    versions = {(each.name, each.version) for each in here.search_model_versions()}
    assert {(each.name, each.version) for each in there.search_model_versions()} == versions
    for name, version in versions:
        ours, theirs = here.get_model_version(name, version), there.get_model_version(name, version)
        assert (theirs.description or "", theirs.current_stage) == (ours.description or "", ours.current_stage)
        assert own(theirs.tags) == own(ours.tags) and theirs.run_id == ids[ours.run_id]
        assert theirs.tags["fishy.export.created_ms"] == str(ours.creation_timestamp)
        found = []
        for client in (here, there):
            uri = client.get_model_version_download_uri(name, version)
            into = folder / f"{name} {version}" / str(len(found))
            into.mkdir(parents=True)
            mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(into), tracking_uri=client.tracking_uri)
            found.append(contents(into))
        assert found[0] and found[0] == found[1]


def test_everything_goes_out_and_is_followed(there, here, tmp_path):
    experiment, run = fill(here, tmp_path)
    here.create_run(experiment, run_name="nested", tags={"mlflow.parentRunId": run})
    report = exported("export", here, there)
    expected = {"experiment": 3, "logged_model": 1, "run": 5, "model": 1, "version": 2}
    assert numbers(report, "found") == numbers(report, "copied") == numbers(report, "here") == expected
    assert report["files"] == 9 and report["aliases"] == 2 and not report["problems"]
    assert_same(here, there, tmp_path / "first")
    ids = copies(there)
    assert len(there.get_metric_history(ids[run], "loss")) == 1600, "there is something to compare"

    report = exported("sync", here, there)
    assert not any(numbers(report, "copied").values()) and report["files"] == report["points"] == 0
    assert numbers(report, "unchanged") == expected

    here.log_metric(run, "loss", 0.5, 1_700_000_300_000, 10_000)
    here.set_tag(run, "a", "c")
    here.log_text(run, "late", "late.txt")
    here.create_run(experiment, run_name="new")
    here.rename_experiment(experiment, "all pens")
    here.set_registered_model_alias("oxygen", "champion", "3")
    here.delete_registered_model_alias("oxygen", "challenger")
    here.set_model_version_tag("oxygen", "3", "checked", "yes")
    report = exported("sync", here, there)
    changed = {"experiment": 1, "logged_model": 0, "run": 2, "model": 1, "version": 1}
    assert numbers(report, "copied") == changed and report["aliases"] == 2
    assert_same(here, there, tmp_path / "second")

    here.log_metric(run, "loss", 0.25, 1_700_000_400_000, 6)
    assert numbers(exported("sync", here, there), "copied")["run"] == 0
    assert numbers(exported("sync", here, there, "--thorough"), "copied")["run"] == 1
    here.delete_run(run)
    exported("sync", here, there)
    assert_same(here, there, tmp_path / "third")


def test_a_killed_export_goes_on_and_nothing_is_double(there, here):
    experiment = here.create_experiment("many")
    for each in range(40):
        run = here.create_run(experiment, run_name=f"run {each}").info.run_id
        here.log_metric(run, "loss", each, 5, 1)
        here.log_text(run, "x" * 10_000, "text.txt")

    def whole():
        found = there.get_experiment_by_name("many")
        if found is None:
            return 0
        digest = "tags.`fishy.export.digest` != 'none'"
        return len(there.search_runs([found.experiment_id], digest, max_results=100))

    line = command("export", here, there.tracking_uri)
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as first:
        until("a few runs", lambda: whole() >= 3 or first.poll() is not None)
        first.kill()
    before = whole()
    assert 3 <= before < 40, "it was stopped in the middle"
    report = exported("export", here, there)
    counts = report["counts"]["run"]
    assert (counts["found"], counts["unchanged"], counts["here"]) == (40, before, 40)
    copy = there.get_experiment_by_name("many").experiment_id
    runs = there.search_runs([copy], max_results=1000)
    assert len(runs) == 40
    for run in runs:
        assert [point.value for point in there.get_metric_history(run.info.run_id, "loss")] == [
            float(run.info.run_name.split()[1])
        ]
        assert [file.path for file in there.list_artifacts(run.info.run_id)] == ["text.txt"]


def test_what_is_there_already_is_not_overwritten(there, here):
    for client in (there, here):
        client.create_registered_model("oxygen", description=client.tracking_uri)
        client.create_experiment("pens")
    done = subprocess.run(
        command("export", here, there.tracking_uri), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    problems = {problem["kind"]: problem["why"] for problem in json.loads(done.stdout)["problems"]}
    assert "was not exported from" in problems["model"] and "rename one of them" in problems["experiment"]
    assert there.get_registered_model("oxygen").description == there.tracking_uri
    itself = subprocess.run(
        command("export", here, here.tracking_uri), capture_output=True, text=True, timeout=60, check=False
    )
    assert itself.returncode == 1 and "a copy needs another one" in itself.stderr


def test_nothing_was_exported_yet_and_each_side_gets_its_own_token(here, tmp_path):
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append(self.headers["Authorization"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "token").write_text("theirs\n")
    line = command("sync", here, f"http://127.0.0.1:{server.server_port}", "--token-file", str(tmp_path / "token"))
    environment = os.environ | {"FISHY_TOKEN": "ours"}
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 1 and "use fishy registry export first" in done.stderr, done.stderr
    assert seen == ["Bearer theirs"]
    server.shutdown()


@pytest.fixture
def workspace(there):
    """A server of the shape of a Databricks workspace, over the real MLflow server."""
    server = Workspace(there.tracking_uri, "a-token")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def with_workspace(verb, side, workspace, here, tmp_path, *more):
    (tmp_path / "token").write_text("a-token\n")
    line = [str(BINARY), "registry", verb, side, workspace.url, "--url", here.tracking_uri, "--output", "json"]
    line += ["--databricks", "--token-file", str(tmp_path / "token"), *more]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_a_workspace_takes_everything_and_gives_it_back(there, here, workspace, tmp_path):
    experiment, run = fill(here, tmp_path)
    schema = ["--schema", "farm.north"]
    report = with_workspace("export", "--to", workspace, here, tmp_path, *schema)
    expected = {"experiment": 3, "logged_model": 1, "run": 4, "model": 1, "version": 2}
    assert numbers(report, "found") == numbers(report, "copied") == numbers(report, "here") == expected
    ids = copies(there)
    assert there.get_experiment(ids[experiment]).name == "/Shared/pens"
    assert there.get_registered_model("farm.north.oxygen").aliases == {"champion": "1", "challenger": "3"}
    # The files of a version are with it, and those of a run with the run.
    weights = contents(tmp_path / "weights")
    for version in ["1", "3"]:
        folder = f"Models/farm/north/oxygen/{version}/"
        held = {path.removeprefix(folder): body for path, body in workspace.files.items() if path.startswith(folder)}
        assert {path: hashlib.sha256(body).hexdigest() for path, body in held.items()} == weights
    assert len(files(there, ids[run], tmp_path / "there")) == 3
    report = with_workspace("sync", "--to", workspace, here, tmp_path, *schema)
    assert not any(numbers(report, "copied").values()) and numbers(report, "unchanged") == expected

    folder = tmp_path / "again"
    folder.mkdir()
    again = Server(str(BINARY), folder)
    again.start()
    try:
        client = MlflowClient(again.url, again.url)
        report = with_workspace("import", "--from", workspace, client, tmp_path)
        # The MLflow server behind the workspace has a default experiment of its own.
        expected["experiment"] += 1
        assert numbers(report, "copied") == numbers(report, "here") == expected and not report["problems"]
        assert client.get_registered_model("farm.north.oxygen").aliases == {"champion": "1", "challenger": "3"}
        version = client.get_model_version_by_alias("farm.north.oxygen", "challenger")
        uri = client.get_model_version_download_uri(version.name, version.version)
        mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=again.url)
        assert contents(folder / "files") == weights
        report = with_workspace("sync", "--from", workspace, client, tmp_path)
        assert not any(numbers(report, "copied").values()) and numbers(report, "unchanged") == expected
    finally:
        again.kill()
    assert workspace.shown == {"Bearer a-token"} and workspace.shown_to_cloud == {None}
