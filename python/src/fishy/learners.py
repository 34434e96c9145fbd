"""What can be trained: a learner fits a table of features, predicts, and becomes an ONNX model.

A pipeline names its learner as ``module:Class`` or ``path/to/file.py:Class``; a class of your own works the same way as
the ones here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestRegressor

Array = npt.NDArray[np.float32]

OPSET = 17
INPUT = "features"
OUTPUT = "prediction"


class Learner(Protocol):
    """A regressor over named float features. ``features`` gives the order of the columns."""

    def __init__(self, features: list[str], seed: int) -> None: ...

    def fit(self, x: Array, y: Array) -> None:
        """Learns from rows ``x`` (n, features) and their true values ``y`` (n,)."""

    def predict(self, x: Array) -> Array:
        """The prediction for each row."""

    def to_onnx(self) -> onnx.ModelProto:
        """The fitted model: input ``features`` FLOAT [n, features], output ``prediction`` FLOAT [n, 1]."""

    def params(self) -> dict[str, str | int | float]:
        """What is worth logging."""


class PlainForest:
    """100 regression trees on the plain inputs: the default, fitted to no data set."""

    def __init__(self, features: list[str], seed: int) -> None:
        self.features = features
        self.seed = seed
        self.model = RandomForestRegressor(n_estimators=100, random_state=seed, n_jobs=-1)

    def fit(self, x: Array, y: Array) -> None:
        self.model.fit(x, y)

    def predict(self, x: Array) -> Array:
        return np.asarray(self.model.predict(x), dtype=np.float32)

    def to_onnx(self) -> onnx.ModelProto:
        return convert(self.model, len(self.features))

    def params(self) -> dict[str, str | int | float]:
        return {"learner": "PlainForest", "trees": 100, "seed": self.seed}


def convert(model: object, width: int) -> onnx.ModelProto:
    """A fitted scikit-learn regressor as ONNX with the input and output names of all our models."""
    proto = to_onnx(
        model,
        initial_types=[(INPUT, FloatTensorType([None, width]))],
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    rename_output(proto, proto.graph.output[0].name, OUTPUT)
    return proto


def rename_output(proto: onnx.ModelProto, old: str, new: str) -> None:
    """Renames one output of a graph, where it is made and where it is declared."""
    for node in proto.graph.node:
        node.output[:] = [new if name == old else name for name in node.output]
        node.input[:] = [new if name == old else name for name in node.input]
    for output in proto.graph.output:
        if output.name == old:
            output.name = new


def load_learner(spec: str) -> type[Learner]:
    """The class that ``module:Class`` or ``path/to/file.py:Class`` names."""
    where, _, name = spec.partition(":")
    if not name:
        raise ValueError(f"learner {spec!r} is not of the form module:Class or path/to/file.py:Class")
    if where.endswith(".py"):
        path = Path(where).resolve()
        found = importlib.util.spec_from_file_location(path.stem.replace("-", "_"), path)
        if found is None or found.loader is None or not path.is_file():
            raise ValueError(f"learner file {path} cannot be read")
        module = importlib.util.module_from_spec(found)
        sys.modules[found.name] = module
        found.loader.exec_module(module)
    else:
        module = importlib.import_module(where)
    learner: type[Learner] = getattr(module, name)
    return learner
