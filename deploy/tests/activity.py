"""Makes a fishy do what a farm makes it do: predictions, true values, drift, a sensor fault, pipelines."""

from __future__ import annotations

import random
import urllib.error
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from conftest import ROOT, free_port, run, until
from program import Program

FEATURES = ["temperature", "salinity", "ph"]
# Logs the model `1·temperature + 2·salinity + 3·ph + 0.5` as one that was trained on the history below.
REGISTER = """
import sys
import mlflow, onnx, pandas as pd
from mlflow.models import infer_signature
url, file, first, last, *columns = sys.argv[1:]
mlflow.set_tracking_uri(url)
example = pd.DataFrame([[1.0, 2.0, 3.0]], columns=columns)
with mlflow.start_run():
    options = {"signature": infer_signature(example), "registered_model_name": "oxygen", "pip_requirements": []}
    info = mlflow.onnx.log_model(onnx.load(file), name="model", **options)
client = mlflow.MlflowClient()
tags = {"fishy.training.from_ms": first, "fishy.training.to_ms": last, "fishy.evaluation.mae": "0.1"}
for name, value in tags.items():
    client.set_model_version_tag("oxygen", info.registered_model_version, name, value)
client.set_registered_model_alias("oxygen", "champion", info.registered_model_version)
"""
PIPELINE = """
name = "{name}"
monitor = "oxygen"
model = "oxygen"
deployment = "oxygen"
alias = "champion"

[[step]]
name = "work"
kind = "command"
command = ["{command}"]
timeout_s = 60
"""


def ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)


class Receiver:
    """Somebody who takes alerts, and one at an address where nobody is."""

    def __init__(self) -> None:
        class Taker(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
        Thread(target=self.server.serve_forever, daemon=True).start()

    def settings(self) -> dict[str, str]:
        ports = {"KEEPER": self.server.server_port, "AWAY": free_port()}
        settings = {}
        for name, port in ports.items():
            of_receiver = {"KIND": "webhook", "URL": f"http://127.0.0.1:{port}/", "GROUP_WAIT_SECONDS": "0"}
            settings |= {f"FISHY__MONITORING__RECEIVERS__{name}__{key}": value for key, value in of_receiver.items()}
        return settings

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Farm:
    """One pen with three sensors."""

    START = datetime(2024, 3, 1, tzinfo=UTC)
    HISTORY = timedelta(days=10)

    def __init__(self, program: Program, python: str) -> None:
        self.program = program
        self.python = python
        self.random = random.Random(7)
        self.predictions = 0

    def row(self, warmer: float = 0.0) -> dict[str, float]:
        middles = {"temperature": 10 + warmer, "salinity": 30, "ph": 8}
        return {name: self.random.gauss(middle, 0.5) for name, middle in middles.items()}

    def set_up(self) -> None:
        """A model with its history, a deployment, a monitor and two pipelines; and a deployment of nothing."""
        first, last = ms(self.START - self.HISTORY), ms(self.START)
        model = ROOT / "services/deployment/tests/fixtures/linear_half.onnx"
        arguments = [self.program.url, str(model), str(first), str(last), *FEATURES]
        run(self.python, "-c", REGISTER, *arguments, cwd=ROOT)
        for name, command in [("retrain", "true"), ("broken", "false")]:
            spec = {"name": name, "definition": PIPELINE.format(name=name, command=command)}
            self.program.send("PUT", f"/api/v1/pipelines/{name}", spec)
        trigger = {
            "pipeline": "retrain",
            "psi_above": 1.0,
            "drift_window_days": 1.0,
            "budget_start": 1.0,
            "reserve_ratio": 1.0,
            "min_labels": 5,
            "error_window_days": 2.0,
        }
        shift = {"alert": {"kind": "constant", "limit": 0.25}}
        check = {"name": "drift", "slices": ["pen"], "max_slices": 1, "tests": {"psi": shift, "mae": {}}}
        monitor = {
            "name": "oxygen",
            "deployment": "oxygen",
            "ranges": {"ph": [0, 14]},
            "trigger": trigger,
            "checks": [check],
        }
        self.program.send("PUT", "/api/v1/monitors/oxygen", monitor)
        items = [
            {
                "id": f"h{hour}",
                "time_ms": first + hour * 3_600_000,
                "arrived_ms": last,
                "inputs": self.row(),
                "value": 1.0,
            }
            for hour in range(int(self.HISTORY.total_seconds()) // 3600)
        ]
        self.program.send("POST", "/api/v1/monitors/oxygen/observations", {"items": items})
        deployment = self.program.send(
            "PUT", "/api/v1/deployments/oxygen", {"name": "oxygen", "model": "models:/oxygen@champion"}
        )
        assert deployment["current"], deployment
        nothing = {"name": "broken", "model": "models:/nothing@champion"}
        self.program.send("PUT", "/api/v1/deployments/broken", nothing)

    def live_through(self, day: int) -> None:
        """A day of hourly readings: warmer from the second one on, with a probe that reads nonsense on the last."""
        begin = self.START + timedelta(days=day)
        truths = []
        for hour in range(24):
            row = self.row(4.0 if day >= 1 else 0.0)
            if day == 3 and hour >= 12:
                row["ph"] = 20.0
            answer = self.predict(f"p{day}-{hour}", begin + timedelta(hours=hour), row)
            known = begin + timedelta(hours=hour, days=1)
            truths.append({"prediction_id": f"p{day}-{hour}", "value": answer + 0.2 * (day + 1), "time_ms": ms(known)})
        self.refused()
        receipt = self.program.send("POST", "/api/v1/feedback/ground-truth", {"items": truths})
        assert receipt["accepted"] == len(truths)
        assert self.program.send("POST", "/api/v1/feedback/ground-truth", {"items": truths[:3]})["duplicates"] == 3
        wanted = self.predictions
        until("monitoring has the records", lambda: self.status()["predictions"] >= wanted)
        self.program.send("POST", "/api/v1/monitors/oxygen/watermark", {"time_ms": ms(begin + timedelta(days=1))})
        for name in ("retrain", "broken"):
            self.program.send("POST", f"/api/v1/pipelines/{name}/runs", {"reason": "a test"})
        self.ask_people(day)

    def ask_people(self, day: int) -> None:
        """Two users say what they think of answers; an expert answers an item of the queue, and skips one."""
        # A day that no true value has come for: of others nobody is asked.
        self.predict(f"new{day}", self.START + timedelta(days=day, hours=23, minutes=30), self.row())
        self.predict(f"newer{day}", self.START + timedelta(days=day, hours=23, minutes=45), self.row())
        until("monitoring has them", lambda: self.status()["predictions"] >= self.predictions)
        items = [
            {"prediction_id": f"p{day}-1", "opinion": {"by": "user", "is_helpful": True}},
            {"prediction_id": f"p{day}-2", "opinion": {"by": "user", "is_helpful": False, "reason": "late"}},
        ]
        self.program.send("POST", "/api/v1/feedback", {"items": items})
        queue = "/api/v1/monitors/oxygen/queue/leases"
        leases = self.program.send("POST", queue, {"count": 2})["items"]
        self.program.send("POST", f"{queue}/{leases[0]['lease']}/answer", {"label": "8.5"})
        self.program.send("POST", f"{queue}/{leases[1]['lease']}/release", {"is_skipped": True})

    def status(self) -> dict[str, Any]:
        return dict(self.program.ask("/api/v1/monitors/oxygen"))

    def predict(self, name: str, time: datetime, row: dict[str, float]) -> float:
        inputs = [{"name": key, "shape": [1], "datatype": "FP64", "data": [value]} for key, value in row.items()]
        labels = {"pen": str(self.predictions % 2)}
        body = {"id": name, "inputs": inputs, "parameters": {"event_time": time.isoformat(), "labels": labels}}
        answer = self.program.send("POST", "/v2/models/oxygen/infer", body)
        self.predictions += 1
        return float(answer["outputs"][0]["data"][0])

    def refused(self) -> None:
        """A request whose input is wrong."""
        body = {"inputs": [{"name": "temperature", "shape": [1], "datatype": "FP64", "data": ["warm"]}]}
        try:
            self.program.send("POST", "/v2/models/oxygen/infer", body)
        except urllib.error.HTTPError as error:
            assert error.code == 400, error.read()
        else:
            raise AssertionError("nonsense was answered")
