"""The examples of monitoring on a slice of their real data, against a program of their own: what the monitor says.

The program is a new one because the bay needs predictions of many years to be kept.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared/data"
BINARY = os.environ.get("FISHY_BINARY", "")
if not BINARY:
    pytest.skip("FISHY_BINARY is not set: there is no program to start", allow_module_level=True)

sys.path.append(str(ROOT / "examples"))

import mlflow  # noqa: E402
import pandas as pd  # noqa: E402


def example(name):
    """The script of an example, as a module."""
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), ROOT / "examples" / name / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def data(name):
    file = DATA / name
    if not file.is_file():
        pytest.skip(f"SKIPPED for want of real data: {file} is missing")
    return file


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A program that keeps predictions of twenty years."""
    # The examples tell the client where to go.
    tracking, registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    folder = tmp_path_factory.mktemp("examples")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FISHY__")}
    environment["FISHY__MONITORING__RETENTION_DAYS"] = "8000"
    command = [BINARY, "up", "--listen", address, "--data-dir", str(folder / "data")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"http://{address}/health", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
        yield f"http://{address}"
    finally:
        mlflow.set_tracking_uri(tracking)
        mlflow.set_registry_uri(registry)
        process.terminate()
        process.wait(timeout=30)


def unique(name):
    return f"{name}-{uuid.uuid4().hex[:8]}"


def mean(figures, test, **where):
    of_test = figures[figures["test"] == test]
    for column, value in where.items():
        of_test = of_test[of_test[column] == value]
    assert len(of_test), f"no figure of {test} {where}"
    return of_test["value"].mean()


def report(watched, tmp_path, span):
    file = tmp_path / "report.html"
    watched.report(BINARY, file, span)
    text = file.read_text()
    assert file.stat().st_size < 2_000_000 and watched.name in text
    return text


def test_the_estuary_grows_warm_and_no_estimate_sees_the_error(url, tmp_path):
    estuary = example("estuary")
    rows = estuary.prepare(data("estuary_wq_15min.parquet"))
    # To the end of July 2012, a reading every six hours.
    rows = rows[(rows["time"] < "2012-08-01") & (rows["time"].dt.hour % 6 == 0)]
    watched, said = estuary.run(rows, url, unique("estuary"))
    season, error = said["season"], said["error"]
    early, late = season[season["end"] < "2012-05-10"], season[season["end"] > "2012-07-01"]
    assert mean(late, "psi", feature="temp", slice="") > mean(early, "psi", feature="temp", slice="") > 1
    assert {"", "station=apacp", "station=apadb"} <= set(season["slice"]), "the stations apart from each other too"
    before = error[error["end"] < "2012-05-05"]
    summer = error[error["end"] > "2012-07-01"]
    assert mean(summer, "mae", slice="") > 1.5 * mean(before, "mae", slice="")
    estimated = mean(summer, "estimated_mae", slice="")
    assert estimated < 0.75 * mean(summer, "mae", slice=""), "it takes it that the model still errs as it did"
    bands = error[error["test"] == "estimated_mae"]
    assert (bands["lower"] <= bands["value"]).all() and (bands["value"] <= bands["upper"]).all()
    out, windows = said["outside"]
    assert windows >= 12 and 3 <= out < windows
    # In 2012 there is no year before.
    assert said["year"].empty and "replay" not in said
    assert any(alarm["check"] == "error" and alarm["test"] == "mae" for alarm in said["alarms"])
    text = report(watched, tmp_path, ("2012-04-01", "2012-08-01"))
    assert "band estimate" in text and "outside of the band" in text


def test_farms_and_cages_are_told_apart_and_missing_labels_are_counted(url, tmp_path):
    farms = example("salmon-farms")
    rows = farms.prepare(data("salmon_farm_welfare_weekly.csv"), "lice")
    rows = rows[rows["time"] < "2019-12-01"]
    watched, said = farms.run(rows, url, unique("lice"))
    live = rows[rows["time"] >= farms.LEARNT_UNTIL]
    status = said["status"]
    assert status["predictions"] == len(live)
    lived = said["lived"]
    assert lived["truth"].notna().sum() == live["truth"].notna().sum() < len(live), "cages that nobody sampled"
    answers, drift = said["answers"], said["drift"]
    slices = set(answers["slice"])
    assert {f"farm={farm}" for farm in live["farm"].unique()} & slices and any("cage=" in one for one in slices)
    # Slices have the rows of their own alone: a farm's cages together have no more labels than the farm.
    brier = answers[(answers["test"] == "brier") & (answers["end"] == answers["end"].max())].set_index("slice")["rows"]
    for farm in [name for name in brier.index if name.startswith("farm=")]:
        cages = brier[brier.index.str.startswith(f"cage={farm.removeprefix('farm=Farm ')}-")]
        assert cages.sum() <= brier[farm] <= brier[""]
    assert 0.7 < mean(answers, "roc_auc", slice="") < 0.95
    assert 0 < mean(answers, "brier", slice="") < 0.25
    assert mean(drift, "psi", feature="temperature", slice="") > 1, "the summer is not the winter"
    assert 0.05 < mean(drift, "missing", feature="lice_total", slice="") < 0.5
    assert said["replay"]["overall"]["failed"] == 0 and said["replay"]["slices"]
    assert "Farm" in report(watched, tmp_path, ("2019-06-01", "2019-12-01"))


def test_the_bay_is_another_one_after_some_years(url, tmp_path):
    bay = example("san-francisco-bay")
    rows = bay.prepare(data("sfbay_water_quality_1985_2004.csv"))
    rows = rows[rows["time"] < "1996-01-01"]
    watched, said = bay.run(rows, url, unique("bloom"))
    drift, answers = said["drift"], said["answers"]
    years = drift[(drift["test"] == "psi") & (drift["feature"] == "sal") & (drift["slice"] == "")]
    assert len(years) >= 5 and (years["value"] > 0.25).all(), "other winters, other rain"
    assert any(alarm["feature"] == "sal" and alarm["severity"] == "alert" for alarm in said["alarms"])
    assert {f"station={station}" for station in rows["station"].unique()} <= set(drift["slice"])
    assert 0.7 < mean(answers, "roc_auc", slice="") < 1.0
    assert "estimated_roc_auc" in set(answers["test"])
    # All that was asked is there with its truth, years later.
    lived, live = said["lived"], rows[rows["time"] >= bay.LEARNT_UNTIL]
    assert len(lived) == len(live) and lived["time"].min() == live["time"].min()
    assert lived["output"].between(0, 1).all()
    assert pd.Series(lived["truth"]).notna().sum() == live["truth"].notna().sum()
    assert "bloom" in report(watched, tmp_path, ("1990-01-01", "1996-01-01"))
