"""What the pages are to show, made by the unmodified client."""

import os
import uuid
from dataclasses import dataclass, field

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.models import infer_signature

STEPS = 60


@dataclass
class Seeded:
    """Names and ids."""

    experiment: str
    experiment_id: str
    model: str
    parent: str = ""
    children: list[str] = field(default_factory=list)
    model_ids: list[str] = field(default_factory=list)


def _log(client: MlflowClient, run_id: str, rate: float):
    curve = 5.0 * np.exp(-rate * np.arange(STEPS)) + 0.4
    start = 1_700_000_000_000
    points = [Metric("oxygen mae", float(value), start + 60_000 * step, step) for step, value in enumerate(curve)]
    client.log_batch(run_id, metrics=[*points, Metric("rmse", float(curve[-1]) * 1.3, start, 0)])
    # Last in the alphabet: the page that compares runs draws the first metric.
    client.log_metric(run_id, "unknown", float("nan"))


def _picture() -> np.ndarray:
    """A pen from above: rings of blue."""
    y, x = np.mgrid[0:120, 0:160]
    rings = (127 + 127 * np.cos(np.hypot(x - 80, y - 60) / 6)).astype(np.uint8)
    return np.stack([rings // 4, rings // 2, rings], axis=-1)


def make(url: str) -> Seeded:
    """Fills a server."""
    from sklearn.linear_model import LinearRegression

    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    client = MlflowClient(url, url)
    unique = uuid.uuid4().hex[:8]
    experiment = f"pen-oxygen-{unique}"
    made = Seeded(experiment, client.create_experiment(experiment, tags={"farm": "north"}), f"oxygen-{unique}")
    mlflow.set_experiment(experiment)
    rng = np.random.default_rng(7)
    x = pd.DataFrame(rng.normal(size=(64, 3)), columns=["temperature", "salinity", "ph"])
    y = 3 * x["temperature"] - x["salinity"] + 8
    with mlflow.start_run(run_name="night shift", tags={"pen": "7"}, description="Learns *dissolved oxygen*") as parent:
        made.parent = parent.info.run_id
        mlflow.log_params({"depth_m": 4, "learner": "ridge"})
        _log(client, made.parent, 0.1)
        mlflow.log_input(mlflow.data.from_pandas(x, name="buoy readings"), context="training")
        mlflow.log_image(_picture(), "pen.png")
        mlflow.log_dict({"pen": 7, "sensors": ["temperature", "salinity"]}, "config/sensors.json")
        mlflow.log_text("the winter was mild\n", "notes.txt")
        mlflow.log_table({"hour": [1, 2, 3], "oxygen": [8.25, 8.5, 7.75]}, "readings.json")
        for number, rate in enumerate((0.05, 0.2), start=1):
            with mlflow.start_run(run_name=f"fold {number}", nested=True) as child:
                made.children.append(child.info.run_id)
                mlflow.log_params({"depth_m": 4, "fold": number})
                _log(client, child.info.run_id, rate)
                # The page that compares runs stumbles over runs without any file.
                mlflow.log_text(f"fold {number}\n", "notes.txt")
        for _ in range(2):
            logged = mlflow.sklearn.log_model(
                LinearRegression().fit(x, y),
                name="virtual-sensor",
                signature=infer_signature(x, y),
                input_example=x.head(2),
                registered_model_name=made.model,
                pip_requirements=["scikit-learn"],
            )
            made.model_ids.append(logged.model_id)
    client.update_registered_model(made.model, "Oxygen of a pen, without an oxygen probe")
    client.set_registered_model_tag(made.model, "species", "salmon")
    client.set_registered_model_alias(made.model, "champion", "2")
    client.update_model_version(made.model, "1", "trained before the winter")
    client.set_model_version_tag(made.model, "1", "reviewed", "yes")
    return made
