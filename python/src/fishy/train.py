"""The training step of a pipeline: ``python -m fishy.train [--learner module:Class]``.

Reads the rows that the pipeline gives it, fits the learner, checks that the ONNX form answers like the fitted one, logs
run and model with the MLflow client, and says in ``FISHY_OUTPUT`` which model it made.

Environment (set by the pipeline): ``FISHY_TRAIN_DATA`` Parquet with id, time_ms, arrived_ms, the features, target;
``FISHY_AS_OF_MS``; ``FISHY_OUTPUT``; ``MLFLOW_TRACKING_URI``; ``MLFLOW_EXPERIMENT_NAME``; ``FISHY_RUN_ID``;
``FISHY_PARAM_SEED``, ``FISHY_PARAM_LEARNER``; ``FISHY_REGISTER_AS`` where the registry takes a version only from the
program that has its files, as Unity Catalog does: then the model is registered under that name.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd

from fishy.learners import Array, load_learner

NOT_FEATURES = {"id", "time_ms", "arrived_ms", "target"}
DEFAULT_LEARNER = "fishy.learners:PlainForest"


def main(argv: list[str] | None = None) -> int:
    """Runs the step; a message on standard error and exit code 1 when it cannot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learner", default=os.environ.get("FISHY_PARAM_LEARNER", DEFAULT_LEARNER))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("FISHY_PARAM_SEED", "0")))
    args = parser.parse_args(argv)

    frame = pd.read_parquet(os.environ["FISHY_TRAIN_DATA"])
    as_of_ms = int(os.environ["FISHY_AS_OF_MS"])
    features = [name for name in frame.columns if name not in NOT_FEATURES]
    late = int((frame["arrived_ms"] > as_of_ms).sum())
    if late:
        print(f"{late} rows arrived after {as_of_ms}: training would see the future", file=sys.stderr)
        return 1
    x, y = split(frame, features)
    if len(y) == 0:
        print("no rows to train on", file=sys.stderr)
        return 1

    started = time.perf_counter()
    learner = load_learner(args.learner)(features, args.seed)
    learner.fit(x, y)
    fitted_s = time.perf_counter() - started
    proto = learner.to_onnx()
    expected = learner.predict(x)
    answered = onnx_predict(proto.SerializeToString(), x)
    difference = float(np.max(np.abs(answered - expected)))
    tolerance = 1e-3 * max(1.0, float(np.max(np.abs(expected))))
    if difference > tolerance:
        print(f"the ONNX form differs from the fitted model by {difference}, more than {tolerance}", file=sys.stderr)
        return 1
    print(f"fitted {len(y)} rows of {len(features)} features in {fitted_s:.2f} s")

    params = {**learner.params(), "rows": len(y), "as_of_ms": as_of_ms, "features": ",".join(features)}
    metrics = {
        "training.mae": float(np.mean(np.abs(expected - y))),
        "training.seconds": fitted_s,
        "onnx.max_difference": difference,
    }
    output = log(proto, frame[features].astype("float32"), params, metrics)
    Path(os.environ["FISHY_OUTPUT"]).write_text(json.dumps(output), encoding="utf-8")
    print(f"logged {output['model_uri']}")
    return 0


def split(frame: pd.DataFrame, features: list[str]) -> tuple[Array, Array]:
    """Features and true values of the rows that have all of them."""
    whole = frame.dropna(subset=[*features, "target"])
    return whole[features].to_numpy(dtype=np.float32), whole["target"].to_numpy(dtype=np.float32)


def onnx_predict(model: bytes, x: Array) -> Array:
    """What ONNX Runtime answers for each row."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: x})
    return np.asarray(result, dtype=np.float32).reshape(-1)


def log(
    proto: object, inputs: pd.DataFrame, params: dict[str, str | int | float], metrics: dict[str, float]
) -> dict[str, object]:
    """Logs run and model with MLflow; answers what later steps need to know."""
    # Imported here: it takes seconds, and a step that fails before this point should say so at once.
    import mlflow
    import mlflow.onnx
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    example = inputs.dropna().head(3)
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.float, name) for name in inputs.columns]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, 1), "prediction")]),
    )
    register_as = os.environ.get("FISHY_REGISTER_AS")
    with mlflow.start_run(run_name=os.environ.get("FISHY_RUN_ID"), log_system_metrics=False) as run:
        mlflow.log_params(params)
        mlflow.log_metrics(metrics)
        model = mlflow.onnx.log_model(
            proto,
            name="model",
            signature=signature,
            input_example=example,
            pip_requirements=["onnx", "onnxruntime", "numpy"],
            registered_model_name=register_as,
        )
        registered = {"model_version": str(model.registered_model_version)} if register_as else {}
        return {
            **registered,
            "model_uri": model.model_uri,
            "model_id": model.model_id,
            "run_id": run.info.run_id,
            "metrics": metrics,
        }


if __name__ == "__main__":
    sys.exit(main())
