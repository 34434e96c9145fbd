"""Artifacts of runs and of logged models."""

from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.artifacts import download_artifacts

from .sides import Local, Rest, Side, call
from .world import Steps, World, operation

PATHS = ["notes.txt", "config/settings.json", "config/deep/x.txt", "a b/größe.txt", "empty", "plus+sign.txt"]


def downloaded(run: str, path: str) -> Local:
    """The files below a path of a run, with their content."""

    def steps(side: Side) -> dict[str, bytes]:
        with TemporaryDirectory() as folder:
            got = download_artifacts(run_id=side.real(run), artifact_path=path, dst_path=folder, tracking_uri=side.url)
            root = Path(got)
            files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
            return {str(file.relative_to(folder)): file.read_bytes() for file in files}

    return Local(f"download {path!r} of {run}", steps)


@operation(3)
def log_artifacts(world: World) -> Steps:
    run, path = world.run(), world.one(PATHS)
    if path.endswith(".json"):
        yield call("log_dict", run, {"x": world.text()}, path)
    else:
        yield call("log_text", run, "" if path == "empty" else world.text() * world.rng.randint(1, 200), path)
    world.artifacts.append((run, path))
    yield call("list_artifacts", run)
    yield call("list_artifacts", run, world.one(["config", "config/deep", path, "none"]))
    yield Rest("GET", "artifacts/list", query={"run_id": run, "path": world.one(["", "config", "config/", "none"])})


@operation(2)
def read_artifacts(world: World) -> Steps:
    if not world.artifacts:
        return
    run, path = world.one(world.artifacts)
    yield downloaded(run, path)
    yield downloaded(run, world.one(["config", "none", "", "a b"]))
    # The root of a run is in the answer of the run alone.
    yield Rest("GET", f"/get-artifact?run_uuid={run}&path={world.one([path, 'none'])}".replace("+", "%2B"))


@operation(1)
def wrong_artifacts(world: World) -> Steps:
    if not world.runs:
        return
    run = world.one(world.runs)
    yield Rest(
        "GET", "artifacts/list", query={"run_id": run, "path": world.one(["../..", "/etc", "%2e%2e/x", "a/../b"])}
    )
    door = "/api/2.0/mlflow-artifacts/artifacts"
    path = world.one(["%2e%2e/x", "a/%2e%2e/%2e%2e/x", "none", "none/none.txt", "%252e%252e/x"])
    yield Rest("GET", f"{door}/{path}")
    yield Rest("PUT", f"{door}/{world.one(['%2e%2e/x', '%252e%252e/x', 'a/%2e%2e/b'])}", raw=b"x")
    yield Rest("GET", f"{door}?path={world.one(['../x', '/etc', '%252e%252e'])}")


@operation(0.7)
def delete_artifacts(world: World) -> Steps:
    number = world.number("folder")
    door = "/api/2.0/mlflow-artifacts/artifacts"
    for name in ("a.txt", "sub/b.txt"):
        yield Rest("PUT", f"{door}/own/{number}/{name}", raw=b"content", content_type="text/plain")
    yield Rest("GET", door, query={"path": f"own/{number}"})
    yield Rest("GET", f"{door}/own/{number}/sub/b.txt")
    yield Rest("DELETE", f"{door}/own/{number}/{world.one(['a.txt', 'sub', 'sub/b.txt'])}")
    yield Rest("GET", door, query={"path": f"own/{number}"})
    yield Rest("DELETE", f"{door}/own/{number}")
    yield Rest("GET", f"{door}/own/{number}/a.txt")
