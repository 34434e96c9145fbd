"""What the examples of monitoring share: a model goes through the mlflow client into a deployment of a running
``fishy``, rows are asked in event time, true values come late, and the monitor says what it saw.

Every step is a request that anybody could send; the numbers come back from the same doors.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import numpy as np
import onnx
import pandas as pd
from onnx import helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

TARGET_OPSET = {"": 17, "ai.onnx.ml": 3}


def ms(moment: pd.Timestamp | str) -> int:
    """Milliseconds since the epoch of a time in UTC."""
    return pd.Timestamp(moment).value // 1_000_000


def arguments(doc: str, name: str) -> argparse.Namespace:
    """What every example takes on its command line."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the file with the data")
    parser.add_argument("--url", default=os.environ.get("FISHY_URL", "http://127.0.0.1:5000"))
    parser.add_argument("--name", default=name, help="of model, deployment and monitor; a new one for every run")
    parser.add_argument("--fishy", default=os.environ.get("FISHY_BINARY", "fishy"), help="the program, for the report")
    parser.add_argument("--report", type=Path, default=Path(f"{name}-report.html"), help="where the report goes")
    parser.add_argument("--picture", type=Path, help="where the first chart of the report goes, as SVG")
    return parser.parse_args()


def probability(classifier: object, width: int) -> onnx.ModelProto:
    """A fitted binary classifier of scikit-learn as ONNX: ``prediction`` is the probability of the second class."""
    inputs = [("features", FloatTensorType([None, width]))]
    proto = to_onnx(classifier, initial_types=inputs, options={"zipmap": False}, target_opset=TARGET_OPSET)
    both = proto.graph.output[1].name
    # A sum of a hundred shares may be a trifle more than one.
    proto.graph.node.append(helper.make_node("Gather", [both, "second"], ["share"], axis=1))
    proto.graph.node.append(helper.make_node("Clip", ["share", "none", "all"], ["prediction"]))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1]), "second"))
    for bound, value in [("none", 0.0), ("all", 1.0)]:
        proto.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), bound))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("prediction", onnx.TensorProto.FLOAT, [None, 1]))
    onnx.checker.check_model(proto)
    return proto


class Watched:
    """A deployment and its monitor. Rows are a frame with ``time`` (UTC), the features, the labels, ``truth`` (NaN
    where nobody ever knew it) and ``known``, the time at which it became known."""

    def __init__(self, url: str, name: str, features: list[str], labels: list[str]) -> None:
        self.url, self.name, self.features, self.labels = url, name, features, labels
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=300)
        self.sent, self.is_watched = 0, False

    def send(self, method: str, path: str, body: object = None) -> Any:
        """One request to the server; anything but success is an error with what the server said."""
        headers = {"content-type": "application/json"}
        if token := os.environ.get("FISHY_TOKEN"):
            headers["authorization"] = f"Bearer {token}"
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text}")
        return json.loads(text) if text else None

    def register(self, proto: onnx.ModelProto, trained: pd.DataFrame) -> str:
        """Logs a model with the mlflow client and registers it, with the span of the rows that it was trained on."""
        # Imported here: it takes seconds.
        import mlflow
        import mlflow.onnx
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, Schema, TensorSpec

        mlflow.set_tracking_uri(self.url)
        mlflow.set_registry_uri(self.url)
        mlflow.set_experiment(self.name)
        signature = ModelSignature(
            inputs=Schema([ColSpec(DataType.float, feature) for feature in self.features]),
            outputs=Schema([TensorSpec(np.dtype("float32"), (-1, 1), "prediction")]),
        )
        with mlflow.start_run():
            mlflow.log_params({"rows": len(trained), "from": trained["time"].min(), "to": trained["time"].max()})
            about = {"signature": signature, "pip_requirements": ["onnx", "onnxruntime", "numpy"]}
            example = trained[self.features].dropna().head(3).astype("float32")
            info = mlflow.onnx.log_model(
                proto, name="model", registered_model_name=self.name, input_example=example, **about
            )
        version = str(info.registered_model_version)
        span = {"from_ms": ms(trained["time"].min()), "to_ms": ms(trained["time"].max()) + 1}
        client = mlflow.MlflowClient(self.url, self.url)
        for bound, value in span.items():
            client.set_model_version_tag(self.name, version, f"fishy.training.{bound}", str(value))
        return version

    def deploy(self, version: str) -> None:
        """A version serves; what is asked is kept, also while nobody watches."""
        deployment = {"name": self.name, "model": f"models:/{self.name}/{version}"}
        self.send("PUT", f"/api/v1/deployments/{self.name}", deployment)

    def watch(self, monitor: Path, history: pd.DataFrame) -> None:
        """Makes the monitor that a TOML file describes, and tells it the rows of the training."""
        spec = tomllib.loads(monitor.read_text()) | {"name": self.name, "deployment": self.name}
        self.send("PUT", f"/api/v1/monitors/{self.name}", spec)
        items = [
            {
                "id": f"{self.name}-history-{place}",
                "time_ms": ms(row["time"]),
                "arrived_ms": ms(row["known"]),
                "inputs": {feature: number(row[feature]) for feature in self.features},
                "value": row["truth"],
                "labels": self.labels_of(row),
            }
            for place, row in enumerate(history.dropna(subset=["truth"]).to_dict("records"))
        ]
        for first in range(0, len(items), 1000):
            self.send("POST", f"/api/v1/monitors/{self.name}/observations", {"items": items[first : first + 1000]})
        self.is_watched = True

    def labels_of(self, row: dict[Any, Any]) -> dict[str, str]:
        return {label: str(row[label]) for label in self.labels}

    def live(self, rows: pd.DataFrame, step: pd.Timedelta) -> None:
        """Asks for each row at its event time. After every step the monitor gets the true values that had become known
        by then, and is told that the time has passed."""
        rows = rows.sort_values("time", kind="stable")
        end, last = rows["time"].min().floor("D") + step, rows["known"].max()
        truths: list[tuple[pd.Timestamp, dict[str, Any]]] = []
        for row in rows.to_dict("records"):
            while row["time"] >= end:
                truths = self.close(end, truths)
                end += step
            prediction_id = f"{self.name}-{self.sent}"
            self.predict(prediction_id, row)
            if not pd.isna(row["truth"]):
                item = {"prediction_id": prediction_id, "value": row["truth"], "time_ms": ms(row["known"])}
                truths.append((row["known"], item))
        self.close(max(end, last.ceil("D")), truths)

    def predict(self, prediction_id: str, row: dict[Any, Any]) -> None:
        inputs = [
            {"name": feature, "shape": [1, 1], "datatype": "FP32", "data": [number(row[feature])]}
            for feature in self.features
        ]
        about = {"event_time": ms(row["time"]), "labels": self.labels_of(row)}
        body = {"id": prediction_id, "parameters": about, "inputs": inputs}
        self.send("POST", f"/v2/models/{self.name}/infer", body)
        self.sent += 1

    def close(
        self, end: pd.Timestamp, truths: list[tuple[pd.Timestamp, dict[str, Any]]]
    ) -> list[tuple[pd.Timestamp, dict[str, Any]]]:
        """Everything up to a time has happened; answers the true values that nobody knows yet."""
        known = [item for at, item in truths if at <= end]
        for first in range(0, len(known), 1000):
            self.send("POST", "/api/v1/feedback/ground-truth", {"items": known[first : first + 1000]})
        deadline = time.monotonic() + 60
        while self.is_watched and self.send("GET", f"/api/v1/monitors/{self.name}")["predictions"] < self.sent:
            if time.monotonic() > deadline:
                raise RuntimeError("the predictions do not reach the monitor")
            time.sleep(0.05)
        if self.is_watched:
            self.send("POST", f"/api/v1/monitors/{self.name}/watermark", {"time_ms": ms(end)})
        return [(at, item) for at, item in truths if at > end]

    def figures(self, check: str) -> pd.DataFrame:
        """Every figure of a check: window by window, test, feature, slice, value, band and severity."""
        query = urlencode({"check": check, "from_ms": 0, "to_ms": ms("2100-01-01")})
        windows = self.send("GET", f"/api/v1/monitors/{self.name}/checks?{query}")["items"]
        rows = [
            {"feature": "", "slice": "", "severity": None}
            | figure
            | {"end": pd.Timestamp(window["end_ms"], unit="ms"), "labels": window["labels"]}
            | figure.get("band", {"lower": np.nan, "upper": np.nan})
            for window in windows
            for figure in window["figures"]
        ]
        return pd.DataFrame(rows)

    def answers(self) -> pd.DataFrame:
        """What was asked live: time, labels, answer, and the true value where it is known."""
        rows, token = [], ""
        while True:
            query = {"deployment": self.name, "from_ms": 0, "to_ms": ms("2100-01-01"), "limit": 1000}
            page = self.send("GET", f"/api/v1/predictions?{urlencode(query)}&page_token={quote(token)}")
            for item in page["items"]:
                at = pd.Timestamp(item["time_ms"], unit="ms")
                rows.append({"time": at, "output": item["answer"], "truth": item["value"], **item.get("labels", {})})
            token = page.get("next_page_token") or ""
            if not token:
                return pd.DataFrame(rows)

    def replay(self, version: str, start: str, by: str) -> dict[str, Any]:
        """Asks another version what was asked live from a time on, and compares the errors of both."""
        request = {"version": version, "from_ms": ms(start), "to_ms": ms("2100-01-01"), "by": by}
        return dict(self.send("POST", f"/api/v1/deployments/{self.name}/replay", request))

    def alarms(self) -> list[dict[str, Any]]:
        """Every alarm, newest first."""
        return list(self.send("GET", f"/api/v1/monitors/{self.name}/alarms")["items"])

    def report(self, fishy: str, file: Path, span: tuple[str, str]) -> None:
        """The report on a span, as one HTML file."""
        command = [fishy, "monitor", "report", self.name, "--from", span[0], "--to", span[1], "--output", str(file)]
        done = subprocess.run([*command, "--url", self.url], capture_output=True, text=True, timeout=120, check=False)
        print(done.stdout or done.stderr, end="")
        done.check_returncode()


def picture(report: Path, file: Path) -> None:
    """The first chart of a report as a picture of its own, with the report's colours in light and dark."""
    page = report.read_text()
    style = page.split("<style>", 1)[1].split("</style>", 1)[0]
    chart = "<svg" + page.split("<svg", 1)[1].split("</svg>", 1)[0] + "</svg>"
    opened = '<svg xmlns="http://www.w3.org/2000/svg" style="background:var(--ground);font-family:sans-serif"'
    file.write_text(chart.replace("<svg", opened, 1).replace(">", f"><style>{style}</style>", 1) + "\n")


def number(value: float) -> float | None:
    """As JSON has it: a missing value is null."""
    return None if pd.isna(value) else float(value)


def outside(figures: pd.DataFrame, realised: str, estimated: str) -> tuple[int, int]:
    """In how many windows the realised figure of all rows lies outside of the band of its estimate, and of how many."""
    whole = figures[figures["slice"] == ""]
    known = whole[whole["test"] == realised].set_index("end")["value"]
    bands = whole[whole["test"] == estimated].set_index("end")[["lower", "upper"]].dropna()
    both = bands.join(known, how="inner")
    return int((~both["value"].between(both["lower"], both["upper"])).sum()), len(both)
