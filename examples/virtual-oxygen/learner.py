"""The learner of the virtual oxygen sensor: 100 extremely randomised trees that predict how saturated the water is.

Water holds less oxygen when it is warm and salty. The trees learn the ratio of dissolved oxygen to the saturation value
(Benson and Krause 1984, at one atmosphere), and the model multiplies it back, so that the season's largest effect need
not be learned. The multiplication is part of the ONNX model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import ExtraTreesRegressor

from fishy.learners import INPUT, OUTPUT, convert, rename_output

if TYPE_CHECKING:
    from fishy.learners import Array

TEMPERATURE = "temp"
SALINITY = "sal"

# Benson and Krause (1984), eq. 22 and 24 as in Standard Methods 4500-O: ln(mg/L) of T in kelvin and salinity in PSU.
CONSTANT = -139.34411
BY_TEMPERATURE = (1.575701e5, -6.642308e7, 1.243800e10, -8.621949e11)
BY_SALINITY = (-0.017674, 10.754, -2140.7)


def saturation(temperature_c: Array, salinity_psu: Array) -> Array:
    """Dissolved oxygen in mg/L of water in balance with air."""
    kelvin = np.clip(temperature_c.astype(np.float64), -2.0, 45.0) + 273.15
    salinity = np.clip(salinity_psu.astype(np.float64), 0.0, 45.0)
    fresh = CONSTANT + sum(factor / kelvin ** (power + 1) for power, factor in enumerate(BY_TEMPERATURE))
    salt = sum(factor / kelvin**power for power, factor in enumerate(BY_SALINITY))
    return np.exp(fresh + salinity * salt).astype(np.float32)


class OxygenRatio:
    """Trees on the ratio of oxygen to its saturation value."""

    def __init__(self, features: list[str], seed: int) -> None:
        self.features = features
        self.seed = seed
        self.temperature = features.index(TEMPERATURE)
        self.salinity = features.index(SALINITY)
        self.model = ExtraTreesRegressor(n_estimators=100, min_samples_leaf=3, random_state=seed, n_jobs=-1)

    def saturation_of(self, x: Array) -> Array:
        return saturation(x[:, self.temperature], x[:, self.salinity])

    def fit(self, x: Array, y: Array) -> None:
        self.model.fit(x, y / self.saturation_of(x))

    def predict(self, x: Array) -> Array:
        return np.asarray(self.model.predict(x) * self.saturation_of(x), dtype=np.float32)

    def params(self) -> dict[str, str | int | float]:
        return {"learner": "OxygenRatio", "trees": 100, "min_samples_leaf": 3, "seed": self.seed}

    def to_onnx(self) -> onnx.ModelProto:
        proto = convert(self.model, len(self.features))
        rename_output(proto, OUTPUT, "ratio")
        graph = proto.graph
        graph.node.extend(saturation_nodes(self.temperature, self.salinity))
        graph.node.append(helper.make_node("Mul", ["ratio", "saturation"], [OUTPUT]))
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1]))
        graph.initializer.extend(CONSTANTS)
        onnx.checker.check_model(proto)
        return proto


def saturation_nodes(temperature: int, salinity: int) -> list[onnx.NodeProto]:
    """The nodes that compute ``saturation`` [n, 1] from two columns of the input, in double precision."""
    nodes = []

    def column(name: str, place: int) -> None:
        index = helper.make_node("Constant", [], [f"{name}_at"], value=numpy_helper.from_array(np.array([place])))
        nodes.append(index)
        nodes.append(helper.make_node("Gather", [INPUT, f"{name}_at"], [f"{name}_float"], axis=1))
        nodes.append(helper.make_node("Cast", [f"{name}_float"], [f"{name}_raw"], to=TensorProto.DOUBLE))

    def apply(operator: str, left: str, right: str, result: str) -> str:
        nodes.append(helper.make_node(operator, [left, right], [result]))
        return result

    column("t", temperature)
    column("s", salinity)
    nodes.append(helper.make_node("Clip", ["t_raw", "t_low", "t_high"], ["t_clipped"]))
    nodes.append(helper.make_node("Clip", ["s_raw", "s_low", "s_high"], ["s_clipped"]))
    kelvin = apply("Add", "t_clipped", "zero_celsius", "kelvin")
    # Horner's scheme in 1/T: c + (a + (b + …)/T)/T
    fresh = "by_t_3"
    for power in (2, 1, 0):
        fresh = apply("Add", f"by_t_{power}", apply("Div", fresh, kelvin, f"fresh_{power}_part"), f"fresh_{power}")
    fresh = apply("Add", "constant", apply("Div", fresh, kelvin, "fresh_part"), "fresh")
    salt = "by_s_2"
    for power in (1, 0):
        salt = apply("Add", f"by_s_{power}", apply("Div", salt, kelvin, f"salt_{power}_part"), f"salt_{power}")
    log = apply("Add", fresh, apply("Mul", "s_clipped", salt, "salt"), "log_saturation")
    nodes.append(helper.make_node("Exp", [log], ["saturation_double"]))
    nodes.append(helper.make_node("Cast", ["saturation_double"], ["saturation"], to=TensorProto.FLOAT))
    return nodes


CONSTANTS = [
    numpy_helper.from_array(np.array(value, dtype=np.float64), name)
    for name, value in [
        ("t_low", -2.0),
        ("t_high", 45.0),
        ("s_low", 0.0),
        ("s_high", 45.0),
        ("zero_celsius", 273.15),
        ("constant", CONSTANT),
        *[(f"by_t_{power}", factor) for power, factor in enumerate(BY_TEMPERATURE)],
        *[(f"by_s_{power}", factor) for power, factor in enumerate(BY_SALINITY)],
    ]
]
