"""`fishy monitor report` in Chromium, from predictions of a running server: `FISHY_URL=http://127.0.0.1:5000 pytest`.

Pictures of the page, light and dark, are in `target/monitoring-report`, or in `FISHY_REPORT_PICTURES`.
"""

import http.client
import json
import math
import os
import random
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest

URL = os.environ.get("FISHY_URL", "")
if not URL:
    pytest.skip("FISHY_URL is not set: there is no server to test", allow_module_level=True)

os.environ["MLFLOW_TRACKING_URI"] = URL
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# The browser and the models of the neighbours.
sys.path += [str(Path(__file__).parents[1] / "mlflow"), str(Path(__file__).parents[1] / "inference")]

import mlflow  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from models import linear  # noqa: E402
from ui.browser import Browser  # noqa: E402

PICTURES = Path(os.environ.get("FISHY_REPORT_PICTURES", Path(__file__).parents[2] / "target/monitoring-report"))
HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_709_251_200_000  # 1 March 2024
DAYS, TRAINED, LABELLED = 36, 12, 32
COLUMNS = ["temperature", "salinity", "ph"]
HOSTILE = "<img src=http://evil.example/x onerror=alert(1)>"
SECTIONS = {
    "open": "What needs somebody",
    "errors": "How good the answers were",
    "slices": "Slices",
    "features": "Distributions and drift",
    "checks": "Checks",
    "quality": "Data quality",
    "labels": "True values",
    "decisions": "Retraining",
}


class Server:
    """One connection to our own routes."""

    def __init__(self):
        self.connection = http.client.HTTPConnection(urlsplit(URL).netloc, timeout=120)

    def send(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body else None, {"content-type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read().decode()
        assert answer.status < 300, f"{method} {path}: {answer.status} {text}"
        return json.loads(text)


def reading(rng, day, pen):
    """Water of a pen: warmer with the days, fresher after day 20; the probe of pen 7 sticks at the end."""
    temperature = 11 + day * 0.08 + math.sin(day * 6.3) + rng.gauss(0, 0.4)
    if pen == "7" and day > 31:
        temperature = 14.25
    salinity = rng.gauss(31.0 if day > 20 else 33.0, 0.5)
    return [temperature, salinity, rng.gauss(8.05, 0.05)]


def predict(server, name, days):
    """Hourly predictions of two pens, and what was true."""
    rng, truths = random.Random(days.start), []
    for hour in range(days.start * 24, days.stop * 24):
        for pen in ("7", "8"):
            values, time_ms = reading(rng, hour / 24, pen), START + hour * HOUR
            label = HOSTILE if hour == 500 else pen
            body = {
                "id": f"{name}-{hour}-{pen}",
                "parameters": {"event_time": time_ms, "labels": {"pen": label}},
                "inputs": [
                    {"name": column, "shape": [1, 1], "datatype": "FP32", "data": [value]}
                    for column, value in zip(COLUMNS, values, strict=True)
                ],
            }
            answer = server.send("POST", f"/v2/models/{name}/infer", body)["outputs"][0]["data"][0]
            # The model is wrong by more where the water has changed.
            error = rng.gauss(0, 0.5) + (0.6 if pen == "8" else 0.1) * max(0.0, hour / 24 - 20) / 8
            if hour < LABELLED * 24:
                arrived = time_ms + int(rng.uniform(2, 4) * DAY)
                truths.append({"prediction_id": body["id"], "value": answer + error, "time_ms": arrived})
    for first in range(0, len(truths), 1000):
        server.send("POST", "/api/v1/feedback/ground-truth", {"items": truths[first : first + 1000]})


def watermark(server, name, day, predictions):
    deadline = time.monotonic() + 60
    while server.send("GET", f"/api/v1/monitors/{name}")["predictions"] < predictions:
        assert time.monotonic() < deadline, "the predictions do not reach the monitor"
        time.sleep(0.1)
    server.send("POST", f"/api/v1/monitors/{name}/watermark", {"time_ms": START + day * DAY})


def monitor(name):
    constant = {"kind": "constant"}
    return {
        "name": name,
        "deployment": name,
        "series_label": "pen",
        "lateness_ms": 300 * DAY,
        "ranges": {"temperature": [-2.0, 30.0]},
        "trigger": {"budget_start": 1.0, "psi_above": None},
        "checks": [
            {
                "name": "error",
                "window_hours": 48,
                "features": COLUMNS,
                "slices": ["pen"],
                "tests": {
                    "estimated_mae": {"warning": constant | {"limit": 0.8}},
                    "mae": {"warning": constant | {"limit": 0.8}, "alert": constant | {"limit": 1.2}},
                    "ks": {"alert": constant | {"limit": 0.7}},
                },
            }
        ],
    }


@pytest.fixture(scope="module")
def watched():
    """A deployment with five weeks behind it."""
    server, name = Server(), f"oxygen-{uuid.uuid4().hex[:8]}"
    example = pd.DataFrame([[1.0, 2.0, 3.0]], columns=COLUMNS).astype(np.float32)
    signature = mlflow.models.infer_signature(example, pd.DataFrame({"y": [14.0]}).astype(np.float32))
    mlflow.set_tracking_uri(URL)
    mlflow.set_experiment(name)
    with mlflow.start_run():
        about = {"signature": signature, "input_example": example}
        mlflow.onnx.log_model(linear(), name="model", registered_model_name=name, **about)
    client = MlflowClient(URL, URL)
    client.set_model_version_tag(name, "1", "fishy.training.from_ms", str(START))
    client.set_model_version_tag(name, "1", "fishy.training.to_ms", str(START + TRAINED * DAY))
    server.send("PUT", f"/api/v1/deployments/{name}", {"name": name, "model": f"models:/{name}/1"})
    predict(server, name, range(0, TRAINED + 1))
    server.send("PUT", f"/api/v1/monitors/{name}", monitor(name))
    watermark(server, name, TRAINED + 1, 48 * (TRAINED + 1))
    predict(server, name, range(TRAINED + 1, DAYS))
    watermark(server, name, DAYS, 48 * DAYS)
    return name


@pytest.fixture(scope="module")
def browser():
    with Browser(PICTURES, width=1280, height=900) as running:
        yield running


def report(*arguments):
    binary = os.environ.get("FISHY_BINARY")
    assert binary, "FISHY_BINARY names the program: cargo xtask test sets it"
    command = [binary, "monitor", "report", *arguments, "--url", URL]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def looked_at(browser, file, picture):
    """The page as a browser shows it: nothing from outside, nothing wrong, nothing beside the window."""
    for scheme in ("light", "dark"):
        browser.color_scheme(scheme)
        browser.open(file.as_uri())
        browser.wait_for(*SECTIONS.values())
        browser.settle()
        browser.picture(f"{picture}-{scheme}", whole=True)
        seen = browser.seen
        assert not seen.requests and not seen.failed, "the page asks for something"
        assert not seen.errors, seen.errors
        assert browser.evaluate("document.scripts.length + document.images.length") == 0
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light"), ground
        text = browser.evaluate("document.body.innerText")
        assert "NaN" not in text and "undefined" not in text
        for section in SECTIONS:
            words = browser.evaluate(f"document.getElementById('{section}').innerText.length")
            assert words > 40, f"{section} says nothing"


def charts(browser, section):
    """How many charts of a section have marks in them."""
    marks = "one.querySelector('path.line, circle.dot, rect')"
    return browser.evaluate(f"[...document.querySelectorAll('#{section} svg')].filter(one => {marks}).length")


def test_a_deployment_with_five_weeks(browser, watched, tmp_path):
    file = tmp_path / "report.html"
    written = report("--deployment", watched, "--from", "2024-03-01", "--output", str(file))
    assert written.returncode == 0, written.stderr
    assert str(file) in written.stdout
    assert file.stat().st_size < 2_000_000
    looked_at(browser, file, "five-weeks")
    text = browser.evaluate("document.body.innerText")
    assert HOSTILE in text, "what a label says is there, as text"
    assert f"model {watched}" in text and "champion is version 1" in text
    assert "clean or replace it" in text, "the stuck probe of pen 7, in words"
    estimated = browser.evaluate("document.querySelectorAll('#errors path.line.estimate').length")
    realised = browser.evaluate("document.querySelectorAll('#errors path.line.current').length")
    assert estimated >= 1 and realised >= 1, "the estimated error beside the realised one"
    # Three features, the answer, the truth and the error: a distribution each, and drift of the features.
    assert browser.evaluate("document.querySelectorAll('#features h3').length") == 6
    assert charts(browser, "features") == 6 + 2 * 3
    assert charts(browser, "quality") >= 1 and charts(browser, "labels") == 2
    assert browser.evaluate("document.querySelectorAll('#slices tbody tr').length") == 3
    assert browser.evaluate("document.querySelectorAll('#decisions tbody tr').length") >= 1


def test_the_figures_as_json(watched):
    printed = report(watched, "--from", "2024-03-05", "--to", "2024-03-07", "--output", "json")
    assert printed.returncode == 0, printed.stderr
    facts = json.loads(printed.stdout)
    assert facts["overview"]["predictions"] == 96 and facts["overview"]["versions"][0]["version"] == "1"
    assert len(facts["hours"]) == 48 and len(facts["days"]) == 2


def test_a_deployment_with_little_data(browser, tmp_path):
    server, name, file = Server(), f"new-{uuid.uuid4().hex[:8]}", tmp_path / "report.html"
    server.send("PUT", f"/api/v1/monitors/{name}", {"name": name, "deployment": name})
    written = report(name, "--output", str(file))
    assert written.returncode == 0, written.stderr
    looked_at(browser, file, "little-data")
    text = browser.evaluate("document.body.innerText")
    assert "no champion yet" in text and "There is no prediction in this time." in text


def test_what_cannot_be_told_is_said_clearly(watched):
    for arguments, words in [
        (["nobody-knows-it"], "there is no monitor"),
        (["--deployment", "nobody-knows-it"], "no monitor watches deployment"),
        ([watched, "--from", "soon"], "is no time"),
        ([watched, "--from", "2024-03-09", "--to", "2024-03-02"], "--from is not before --to"),
        ([watched, "--output", "/nowhere/report.html"], "writing /nowhere/report.html"),
    ]:
        refused = report(*arguments)
        assert refused.returncode != 0 and words in refused.stderr, refused.stderr
