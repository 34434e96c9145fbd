"""Learners fit, predict, and answer the same as ONNX models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fishy.learners import load_learner
from fishy.train import onnx_predict

ROOT = Path(__file__).parents[2]
FEATURES = ["depth", "ph", "sal", "temp"]


def water(rows: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    x = np.column_stack(
        [
            random.uniform(1, 3, rows),
            random.uniform(7, 9, rows),
            random.uniform(0, 35, rows),
            random.uniform(0, 30, rows),
        ]
    ).astype(np.float32)
    y = (14 - 0.25 * x[:, 3] - 0.05 * x[:, 2] + 0.3 * (x[:, 1] - 8)).astype(np.float32)
    return x, y


@pytest.mark.parametrize(
    "spec", ["fishy.learners:PlainForest", str(ROOT / "examples/virtual-oxygen/learner.py") + ":OxygenRatio"]
)
def test_the_onnx_form_answers_like_the_fitted_model(spec: str) -> None:
    x, y = water(400)
    learner = load_learner(spec)(FEATURES, 0)
    learner.fit(x, y)
    unseen, truth = water(50)
    proto = learner.to_onnx().SerializeToString()
    answers = onnx_predict(proto, unseen)
    assert np.max(np.abs(answers - learner.predict(unseen))) < 1e-3
    assert np.mean(np.abs(answers - truth)) < 0.5


def test_saturation_has_the_published_values() -> None:
    module = load_learner(str(ROOT / "examples/virtual-oxygen/learner.py") + ":OxygenRatio").__module__
    saturation = __import__("sys").modules[module].saturation
    # Standard Methods 4500-O, table of oxygen solubility at 101.3 kPa: fresh water at 0 and 20 °C.
    values = saturation(np.array([0.0, 20.0], dtype=np.float32), np.array([0.0, 0.0], dtype=np.float32))
    assert values == pytest.approx([14.621, 9.092], abs=0.005)


def test_a_learner_that_cannot_be_found_is_named() -> None:
    with pytest.raises(ValueError, match="module:Class"):
        load_learner("nothing")
    with pytest.raises(ValueError, match=r"missing\.py"):
        load_learner("missing.py:Learner")
