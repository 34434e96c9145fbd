"""Artifacts of runs and of logged models."""

from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.artifacts import download_artifacts

from .sides import Local, Rest, Side, call
from .world import Steps, World, operation

PATHS = ["notes.txt", "config/settings.json", "config/deep/x.txt", "a b/größe.txt", "empty", "plus+sign.txt"]


def files_of(side: Side, folder: str, **wanted: str) -> dict[str, bytes]:
    """What is downloaded, with its content."""
    root = Path(download_artifacts(dst_path=folder, tracking_uri=side.url, registry_uri=side.url, **wanted))
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def downloaded(run: str, path: str) -> Local:
    """The files below a path of a run, with their content."""

    def steps(side: Side) -> dict[str, bytes]:
        with TemporaryDirectory() as folder:
            return files_of(side, folder, run_id=side.real(run), artifact_path=path)

    return Local(f"download {path!r} of {run}", steps)


def downloaded_uri(uri: str) -> Local:
    """The files that a URI names, with their content."""

    def steps(side: Side) -> dict[str, bytes]:
        with TemporaryDirectory() as folder:
            return files_of(side, folder, artifact_uri=side.real(uri))

    return Local(f"download {uri}", steps)


def uploaded_to_model(model: str, files: dict[str, str], folder: str | None) -> Local:
    """Files of a logged model."""

    def steps(side: Side) -> list[str]:
        with TemporaryDirectory() as local:
            for name, content in files.items():
                file = Path(local) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
            side.client.log_model_artifacts(side.real(model), local, folder)
        return sorted(files)

    return Local(f"upload {sorted(files)} to {model} below {folder}", steps)


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


@operation(1.5)
def files_of_version(world: World) -> Steps:
    """A version with files, read by each of its names. Its run has no other versions, since files of registered ones
    cannot be changed in fishy."""
    made = yield call("create_run", world.one(world.experiments), world.tick())
    if not made:
        return
    run = world.learn("run", [run.info.run_id for run in made.values])
    contents = {"MLmodel": "artifact_path: m\n", "data/weights.txt": world.text() * world.rng.randint(1, 300)}
    for name, content in contents.items():
        yield call("log_text", run, content, f"m/{name}")
    name = world.model()
    made = yield call("create_model_version", name, f"runs:/{run}/m", run)
    if not made or name not in world.models:
        return
    version = str(world.next_version[name])
    world.models[name].append(world.next_version[name])
    world.next_version[name] += 1
    yield call("get_model_version", name, version)
    yield call("set_registered_model_alias", name, "newest", version)
    yield downloaded_uri(f"models:/{name}/{version}")
    yield downloaded_uri(f"models:/{name}@newest")
    yield downloaded_uri(f"models:/{name}/{world.one(['99', '0'])}")
    yield downloaded_uri(f"models:/{name}@{world.one(['nobody', 'newest'])}")
    yield downloaded_uri(f"runs:/{run}/{world.one(['m', 'm/data', 'none'])}")
    # MLflow answers 500 to one that is there, where its source is that of a run.
    query = {"name": name, "version": "99", "path": world.one(["none", "data"])}
    yield Rest("GET", "/model-versions/get-artifact", query=query)


@operation(1.5)
def files_of_logged_model(world: World) -> Steps:
    """Files of a logged model; none are added to that of a version, since fishy lets nobody change those."""
    model = world.logged_model()
    files = {"MLmodel": "flavors: {}\n", world.one(["a.txt", "sub/b.txt", "größe.txt"]): world.text() * 50}
    folder = world.one([None, None, "deeper"])
    if model not in world.registered:
        yield uploaded_to_model(model, files, folder)
    yield call("list_logged_model_artifacts", model)
    yield call("list_logged_model_artifacts", model, world.one(["sub", "deeper", "none"]))
    yield downloaded_uri(f"models:/{model}")
    path = world.one(["MLmodel", "none", "../x"])
    query = {"artifact_file_path": path}
    yield Rest("GET", f"/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files", query=query)
    query = {"artifact_directory_path": world.one(["sub", "", "none"])}
    yield Rest("GET", f"logged-models/{model}/artifacts/directories", query=query)
