"""`fishy predict` over whole files, and what it explains, against the running server."""

import json
import os
import signal
import subprocess
import time
import urllib.request
import uuid

import pytest

URL = os.environ.get("FISHY_URL", "")
if not URL:
    pytest.skip("FISHY_URL is not set: there is no server to test", allow_module_level=True)

os.environ["MLFLOW_TRACKING_URI"] = URL
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow.models  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from models import deploy, linear  # noqa: E402

COLUMNS = ["temperature", "salinity", "ph"]


@pytest.fixture(scope="module")
def deployment():
    example = pd.DataFrame([[1.0, 2.0, 3.0]], columns=COLUMNS)
    signature = mlflow.models.infer_signature(example, pd.DataFrame({"y": [14.0]}))
    name = f"linear-{uuid.uuid4().hex[:12]}"
    return deploy(linear(), name, signature=signature, input_example=example)


def frame(rows):
    """Columns in another order, of several types, with one that no model knows."""
    random = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "pen": [f"pen-{row}" for row in range(rows)],
            "ph": random.normal(8.0, 0.1, rows).astype(np.float32),
            "temperature": random.integers(0, 20, rows),
            "salinity": random.normal(33.0, 1.0, rows),
        }
    )


def expected(table):
    return table["temperature"] + 2.0 * table["salinity"] + 3.0 * table["ph"]


def command(deployment, source, target, *more):
    binary = os.environ.get("FISHY_BINARY")
    assert binary, "FISHY_BINARY names the program: cargo xtask test sets it"
    arguments = ["predict", "--deployment", deployment, "--input", str(source), "--output", str(target), *more]
    return [binary, *arguments, "--url", URL]


def run(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, check=False)


def recorded(deployment):
    name = f'fishy_prediction_records_total{{deployment="{deployment}"}}'
    with urllib.request.urlopen(f"{URL}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@pytest.mark.parametrize("source", ["parquet", "csv"])
@pytest.mark.parametrize("target", ["parquet", "csv", "jsonl"])
def test_a_file_becomes_a_file(deployment, tmp_path, source, target):
    table = frame(2500)
    read = tmp_path / f"x.{source}"
    table.to_parquet(read, row_group_size=700) if source == "parquet" else table.to_csv(read, index=False)
    write = tmp_path / f"y.{target}"
    before = recorded(deployment)
    ended = run(deployment, read, write, "--batch-rows", "999", "--keep", "pen")
    assert ended.returncode == 0, ended.stderr
    assert "2500 rows predicted" in ended.stdout
    readers = {"parquet": pd.read_parquet, "csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True)}
    found = readers[target](write)
    assert list(found.columns) == ["pen", "y"] and list(found["pen"]) == list(table["pen"])
    np.testing.assert_allclose(found["y"], expected(table), rtol=1e-5)
    assert recorded(deployment) == before, "a batch is no traffic, unless it is said to be"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([read.name, write.name])


def test_a_batch_may_be_recorded_and_is_recorded_once(deployment, tmp_path):
    frame(300).to_parquet(tmp_path / "x.parquet")
    before = recorded(deployment)
    for _ in range(2):
        arguments = (deployment, tmp_path / "x.parquet", tmp_path / "y.parquet", "--batch-rows", "100", "--record")
        assert run(*arguments).returncode == 0
    assert recorded(deployment) - before == 300


def test_a_run_that_is_killed_goes_on_and_gives_the_same_file(deployment, tmp_path):
    table = frame(60_000)
    source = tmp_path / "x.parquet"
    table.to_parquet(source)
    whole = tmp_path / "whole.parquet"
    assert run(deployment, source, whole, "--batch-rows", "200").returncode == 0
    target = tmp_path / "killed.parquet"
    parts = tmp_path / "killed.parquet.parts"

    def done():
        return len([path for path in parts.iterdir() if path.name.isdigit()]) if parts.is_dir() else 0

    kills = 0
    for enough in [5, 60, 150]:
        running = subprocess.Popen(
            command(deployment, source, target, "--batch-rows", "200"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while running.poll() is None and done() < enough and time.monotonic() < deadline:
            time.sleep(0.001)
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
            running.wait()
            kills += 1
    assert kills == 3 and not target.exists() and 150 <= done() < 300
    other = run(deployment, source, target, "--batch-rows", "300")
    assert other.returncode == 1 and "--restart" in other.stderr and '"batch_rows": 200' in other.stderr
    ended = run(deployment, source, target, "--batch-rows", "200")
    assert ended.returncode == 0, ended.stderr
    assert target.read_bytes() == whole.read_bytes()
    found = pq.read_table(target).to_pandas()
    np.testing.assert_allclose(found["y"], expected(table), rtol=1e-5)
    assert not parts.exists()


def test_what_cannot_be_done_is_said(deployment, tmp_path):
    frame(10).drop(columns=["ph"]).to_csv(tmp_path / "x.csv", index=False)
    ended = run(deployment, tmp_path / "x.csv", tmp_path / "y.parquet")
    assert ended.returncode == 1 and "no column ph" in ended.stderr
    frame(10).to_csv(tmp_path / "x.csv", index=False)
    ended = run(deployment, tmp_path / "x.csv", tmp_path / "y.txt")
    assert ended.returncode == 1 and ".parquet, .csv, .jsonl" in ended.stderr
    ended = run("nowhere", tmp_path / "x.csv", tmp_path / "y.csv")
    assert ended.returncode == 1 and "nowhere" in ended.stderr
    away = command(deployment, tmp_path / "x.csv", tmp_path / "y.csv")
    away[-1] = "http://127.0.0.1:9"
    ended = subprocess.run(away, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 75 and "goes on there" in ended.stderr


def test_a_prediction_is_explained(deployment, tmp_path):
    source = tmp_path / "x.json"
    source.write_text(json.dumps({"dataframe_records": [{"temperature": 11.0, "salinity": 2.0, "ph": 4.0}]}))
    ended = run(deployment, source, "json", "--explain")
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    (output,) = answer["explanations"][0]["outputs"]
    contributions = dict(zip(answer["features"], output["values"], strict=True))
    assert contributions == pytest.approx({"temperature": 10.0, "salinity": 0.0, "ph": 3.0}, abs=1e-5)
    assert output["base_value"] == pytest.approx(14.0) and output["prediction"] == pytest.approx(27.0)
    printed = run(deployment, source, "table", "--explain").stdout
    assert "temperature" in printed and "+10.000000" in printed and "base 14.000000" in printed
