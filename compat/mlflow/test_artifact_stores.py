"""The unmodified client and a fishy of its own that keeps artifacts in S3 (moto) and in GCS (fake-gcs-server).

`FISHY_BINARY` names the program, `FISHY_TEST_S3` and `FISHY_TEST_GCS` the addresses of the stores.
"""

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

# Without it urllib calls the body a form, and moto reads it as one.
BYTES = {"Content-Type": "application/octet-stream"}
PROGRAM = os.environ.get("FISHY_BINARY", "")
if not PROGRAM:
    pytest.skip("FISHY_BINARY is not set: there is no program to test", allow_module_level=True)

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import boto3  # noqa: E402
import mlflow  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from mlflow.artifacts import download_artifacts  # noqa: E402

MIB = 1024 * 1024


@dataclass
class Server:
    """A fishy with an object store."""

    kind: str
    url: str
    process: subprocess.Popen
    bucket: str

    def memory_mib(self) -> float:
        """The most memory that the program had resident so far."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def info(self) -> dict:
        with urllib.request.urlopen(f"{self.url}/api/3.0/mlflow/server-info", timeout=30) as answer:
            return json.load(answer)

    def call(self, method: str, path: str, body: dict | None = None):
        """Status and body of a raw request."""
        request = urllib.request.Request(self.url + path, method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def files(self) -> dict:
        """Which objects the store has."""
        if self.kind == "s3":
            found = s3().list_objects_v2(Bucket=self.bucket).get("Contents", [])
            return {one["Key"]: one["Size"] for one in found}
        listed = f"{os.environ['FISHY_TEST_GCS']}/storage/v1/b/{self.bucket}/o"
        with urllib.request.urlopen(listed, timeout=30) as answer:
            return {one["name"]: int(one["size"]) for one in json.load(answer).get("items", [])}


def s3():
    return boto3.client(
        "s3",
        endpoint_url=os.environ["FISHY_TEST_S3"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _make_bucket(kind: str, bucket: str) -> dict:
    """Makes a bucket; gives the configuration that names it."""
    if kind == "s3":
        s3().create_bucket(Bucket=bucket)
        keys = {"FISHY__STORAGE__ACCESS_KEY": "test", "FISHY__STORAGE__SECRET_KEY": "test"}
        return {
            "FISHY__STORAGE__ARTIFACTS": f"s3://{bucket}/models",
            "FISHY__STORAGE__ENDPOINT": os.environ["FISHY_TEST_S3"],
            **keys,
        }
    endpoint = os.environ["FISHY_TEST_GCS"]
    request = urllib.request.Request(f"{endpoint}/storage/v1/b?project=test", json.dumps({"name": bucket}).encode())
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request, timeout=30).close()
    return {"FISHY__STORAGE__ARTIFACTS": f"gs://{bucket}/models", "FISHY__STORAGE__ENDPOINT": endpoint}


@contextlib.contextmanager
def running(kind: str, folder: Path):
    bucket = f"fishy-{kind}-{uuid.uuid4().hex[:8]}"
    environment = {**os.environ, **_make_bucket(kind, bucket)}
    url = f"http://127.0.0.1:{_free_port()}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [PROGRAM, "up", "--listen", url.removeprefix("http://"), "--data-dir", str(folder / "data")],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ready", timeout=5):
                break
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield Server(kind, url, process, bucket)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module", params=["s3", "gcs"])
def server(request, tmp_path_factory):
    tracking, registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    with running(request.param, tmp_path_factory.mktemp(request.param)) as one:
        mlflow.set_tracking_uri(one.url)
        mlflow.set_registry_uri(one.url)
        yield one
    mlflow.set_tracking_uri(tracking)
    mlflow.set_registry_uri(registry)


@pytest.fixture
def client(server):
    return MlflowClient(server.url, server.url)


@pytest.fixture
def run(client):
    return client.create_run("0").info


def large_file(path: Path, mib: int) -> str:
    """A file of that size whose parts all differ; gives its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(mib):
            block = hashlib.sha256(f"{path.name} {number}".encode()).digest() * (MIB // 32)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def hash_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def kept_hash(server, run, path: str) -> str:
    """The SHA-256 that the registry keeps of an artifact."""
    address = f"{server.url}/api/2.0/mlflow-artifacts/artifacts/{run.experiment_id}/{run.run_id}/artifacts/{path}"
    with urllib.request.urlopen(address, timeout=120) as answer:
        return answer.headers["ETag"].strip('"')


def test_files_go_in_are_listed_come_out_and_go(server, client, run, tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/a.txt").write_text("salmon")
    (tmp_path / "in/deep/empty").write_bytes(b"")
    (tmp_path / "in/deep/b.bin").write_bytes(bytes(range(256)) * 4096)
    client.log_artifacts(run.run_id, str(tmp_path / "in"), "data")
    assert [(one.path, one.is_dir, one.file_size) for one in client.list_artifacts(run.run_id, "data")] == [
        ("data/a.txt", False, 6),
        ("data/deep", True, None),
    ]
    assert len(server.files()) >= 3, "they are in the bucket"
    out = Path(download_artifacts(run_id=run.run_id, artifact_path="data", dst_path=str(tmp_path / "out")))
    for name in ("a.txt", "deep/empty", "deep/b.bin"):
        assert (out / name).read_bytes() == (tmp_path / "in" / name).read_bytes(), name
    assert kept_hash(server, run, "data/deep/b.bin") == hash_of(tmp_path / "in/deep/b.bin")
    before = len(server.files())
    repository = mlflow.store.artifact.artifact_repository_registry.get_artifact_repository(run.artifact_uri)
    repository.delete_artifacts("data/deep")
    assert [one.path for one in client.list_artifacts(run.run_id, "data")] == ["data/a.txt"]
    assert len(server.files()) == before - 2, "what is deleted leaves the bucket"


def test_a_model_goes_in_and_comes_out(server, client):
    from sklearn.linear_model import LinearRegression

    name = f"store-{uuid.uuid4().hex[:8]}"
    # Another test may have chosen an experiment of another server.
    with mlflow.start_run(experiment_id="0"):
        model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
        mlflow.sklearn.log_model(model, name="m", registered_model_name=name, pip_requirements=["scikit-learn"])
    assert abs(mlflow.pyfunc.load_model(f"models:/{name}/1").predict([[2.0]])[0] - 5.0) < 1e-9


def test_large_files_stream_with_constant_memory(server, client, run, tmp_path, monkeypatch):
    # Through the server, also where the store could be reached directly.
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    small, large = tmp_path / "small.bin", tmp_path / "large.bin"
    large_file(small, 32)
    expected = large_file(large, 256)

    def there_and_back(file):
        client.log_artifact(run.run_id, str(file))
        return Path(download_artifacts(run_id=run.run_id, artifact_path=file.name, dst_path=str(tmp_path / "back")))

    there_and_back(small)
    before = server.memory_mib()
    assert hash_of(there_and_back(large)) == expected
    assert server.memory_mib() - before < 64, "256 MiB went through in pieces"


def test_a_large_upload_goes_straight_to_the_store(server, client, run, tmp_path, monkeypatch):
    is_s3 = server.kind == "s3"
    info = server.info()
    assert (info["multipart_uploads_enabled"], info["multipart_downloads_enabled"]) == (is_s3, is_s3)
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(10 * MIB))
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(6 * MIB))
    monkeypatch.setenv("MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE", str(7 * MIB))
    asked = []
    sent = mlflow.store.artifact.http_artifact_repo.requests.put
    put = lambda url, **rest: asked.append(url) or sent(url, **rest)  # noqa: E731
    monkeypatch.setattr(mlflow.store.artifact.http_artifact_repo.requests, "put", put)
    file = tmp_path / "large model.bin"
    expected = large_file(file, 20)
    before = server.memory_mib()
    client.log_artifact(run.run_id, str(file), "weights")
    if is_s3:
        assert len(asked) == 4 and all(url.startswith(os.environ["FISHY_TEST_S3"]) for url in asked), "in 4 parts"
    else:
        assert not asked, "GCS has no addresses to give away here: it went through the server"
    assert kept_hash(server, run, "weights/large%20model.bin") == expected
    assert [one.file_size for one in client.list_artifacts(run.run_id, "weights")] == [20 * MIB]
    back = download_artifacts(run_id=run.run_id, artifact_path="weights/large model.bin", dst_path=str(tmp_path / "b"))
    assert hash_of(Path(back)) == expected
    assert server.memory_mib() - before < 64


def test_a_forced_client_falls_back_where_the_store_has_no_addresses(server, client, run, tmp_path, monkeypatch):
    if server.kind == "s3":
        pytest.skip("S3 has them")
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")
    (tmp_path / "a.txt").write_text("trout")
    client.log_artifact(run.run_id, str(tmp_path / "a.txt"))
    back = download_artifacts(run_id=run.run_id, artifact_path="a.txt", dst_path=str(tmp_path / "back"))
    assert Path(back).read_text() == "trout"


def test_uploads_in_parts_are_checked_and_can_be_given_up(server, run):
    folder = f"{run.experiment_id}/{run.run_id}/artifacts"
    door = "/api/2.0/mlflow-artifacts/mpu"
    status, told = server.call("POST", f"{door}/create/{folder}", {"path": "/home/ada/a.bin", "num_parts": 2})
    if server.kind != "s3":
        assert status == 501 and told["message"].startswith("Multipart upload is not supported"), told
        return
    assert status == 200 and [one["part_number"] for one in told["credentials"]] == [1, 2]
    upload = {"path": "a.bin", "upload_id": told["upload_id"]}
    tags = []
    for part in told["credentials"]:
        request = urllib.request.Request(part["url"], b"x" * 1000, BYTES, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            tags.append({"part_number": part["part_number"], "etag": answer.headers["ETag"]})
    before = server.files()
    for wrong, expected in [
        ({"parts": tags}, 400),  # The first part is too small.
        ({"parts": []}, 400),
        ({"parts": tags[1:]}, 400),
        ({"parts": [tags[0], tags[0]]}, 400),
        ({"parts": [{"part_number": 1}]}, 400),
        ({"parts": tags, "upload_id": "none"}, 404),
        ({"parts": tags, "path": "b.bin"}, 404),
    ]:
        status, answer = server.call("POST", f"{door}/complete/{folder}", upload | wrong)
        assert status == expected, (wrong, answer)
    assert server.files() == before, "nothing is there before it is complete"
    assert server.call("POST", f"{door}/abort/{folder}", upload) == (200, {})
    assert server.call("POST", f"{door}/abort/{folder}", upload) == (200, {}), "there is nothing to give up"
    assert server.call("POST", f"{door}/complete/{folder}", upload | {"parts": tags})[0] == 404
    assert not s3().list_multipart_uploads(Bucket=server.bucket).get("Uploads"), "the parts are gone"
    for wrong in [{"path": "a.bin", "num_parts": 0}, {"path": "a.bin", "num_parts": 10_001}, {"path": "a/"}, {}]:
        assert server.call("POST", f"{door}/create/{folder}", wrong)[0] == 400, wrong
    assert server.call("POST", f"{door}/create/a/%2e%2e/b", {"path": "a.bin"})[0] == 400
    assert server.call("GET", "/api/2.0/mlflow-artifacts/presigned/none")[0] == 404


def test_completing_twice_is_completing_once(server, run):
    if server.kind != "s3":
        pytest.skip("only S3 takes parts from clients")
    folder = f"{run.experiment_id}/{run.run_id}/artifacts"
    door = "/api/2.0/mlflow-artifacts/mpu"
    for content in (b"first", b"second"):
        _, told = server.call("POST", f"{door}/create/{folder}", {"path": "c.bin", "num_parts": 1})
        request = urllib.request.Request(told["credentials"][0]["url"], content, BYTES, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            parts = [{"part_number": 1, "etag": answer.headers["ETag"]}]
        done = {"path": "c.bin", "upload_id": told["upload_id"], "parts": parts}
        assert server.call("POST", f"{door}/complete/{folder}", done) == (200, {})
        assert server.call("POST", f"{door}/complete/{folder}", done)[0] == 404, "it has ended"
        assert kept_hash(server, run, "c.bin") == hashlib.sha256(content).hexdigest()
    status, told = server.call(
        "POST", "/api/2.0/mlflow/artifacts/presigned-download-url", {"run_id": run.run_id, "path": "c.bin"}
    )
    assert status == 200 and told["file_size"] == 6
    with urllib.request.urlopen(told["presigned_url"], timeout=30) as answer:
        assert answer.read() == b"second"
    upload = {"run_id": run.run_id, "path": "d.bin"}
    status, told = server.call("POST", "/api/2.0/mlflow/artifacts/presigned-upload-url", upload)
    assert status == 400 and "proxied artifact storage" in told["message"]
