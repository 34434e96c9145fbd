"""Makes the models of the benchmark: `models.py FOLDER`. Each is NAME/NAME.onnx, and mlflow/NAME in MLflow's form.

Once: what is there is kept while this file stays as it is.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import mlflow
import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.neural_network import MLPClassifier

FEATURES = 12
OPSET = 17
IR = 10


def tabular() -> dict[str, onnx.ModelProto]:
    """A hundred boosted trees, and a perceptron of two hidden layers."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(4000, FEATURES)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + np.sin(x[:, 2]) + 0.3 * rng.normal(size=len(x)) > 0).astype(np.int64)
    learners = {
        "gbm": GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=0),
        "mlp": MLPClassifier(hidden_layer_sizes=(64, 32), max_iter=60, random_state=0),
    }
    return {
        name: to_onnx(
            learner.fit(x, y),
            initial_types=None,
            X=x[:1],
            options={"zipmap": False},
            target_opset={"": OPSET, "ai.onnx.ml": 3},
        )
        for name, learner in learners.items()
    }


class Network:
    """A graph that grows layer by layer. Batch normalisation is folded into the convolutions, as exporters do."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last = "X"
        self.channels = 3
        self.constant("low", np.float32(0))
        self.constant("high", np.float32(6))

    def constant(self, name: str, value: object) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, kind: str, inputs: list[str], **attributes: object) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def convolution(
        self, channels: int, size: int, stride: int = 1, depthwise: bool = False, clip: bool = True
    ) -> None:
        group = self.channels if depthwise else 1
        shape = (channels, self.channels // group, size, size)
        scale = np.sqrt(2 / np.prod(shape[1:]))
        number = len(self.nodes)
        weight = self.constant(f"w_{number}", self.rng.normal(0, scale, shape).astype(np.float32))
        bias = self.constant(f"b_{number}", np.zeros(channels, np.float32))
        pads = [size // 2] * 4
        convolved = self.add(
            "Conv",
            [self.last, weight, bias],
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=pads,
            group=group,
        )
        self.last = self.add("Clip", [convolved, "low", "high"]) if clip else convolved
        self.channels = channels

    def block(self, channels: int, expansion: int, stride: int) -> None:
        """An inverted residual."""
        before, came_with = self.last, self.channels
        if expansion > 1:
            self.convolution(self.channels * expansion, 1)
        self.convolution(self.channels, 3, stride, depthwise=True)
        self.convolution(channels, 1, clip=False)
        if stride == 1 and came_with == channels:
            self.last = self.add("Add", [before, self.last])


def mobilenet() -> onnx.ModelProto:
    """The shape of MobileNetV2 (Sandler and others, 2018, table 2) with random weights."""
    network = Network()
    network.convolution(32, 3, stride=2)
    stages = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    for expansion, channels, times, stride in stages:
        for number in range(times):
            network.block(channels, expansion, stride if number == 0 else 1)
    network.convolution(1280, 1)
    pooled = network.add("Flatten", [network.add("GlobalAveragePool", [network.last])])
    weight = network.constant("w_out", network.rng.normal(0, 0.01, (1280, 1000)).astype(np.float32))
    bias = network.constant("b_out", np.zeros(1000, np.float32))
    network.nodes.append(helper.make_node("Gemm", [pooled, weight, bias], ["scores"]))
    graph = helper.make_graph(
        network.nodes,
        "mobilenetv2",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1000])],
        network.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def save(name: str, model: onnx.ModelProto, folder: Path) -> None:
    onnx.checker.check_model(model)
    (folder / name).mkdir()
    onnx.save(model, folder / name / f"{name}.onnx")
    shape = (1, 3, 224, 224) if name == "mobilenet" else (-1, FEATURES)
    signature = ModelSignature(inputs=Schema([TensorSpec(np.dtype("float32"), shape, "X")]))
    mlflow.onnx.save_model(
        model,
        str(folder / "mlflow" / name),
        signature=signature,
        pip_requirements=["onnx", "onnxruntime", "numpy"],
    )


def main() -> None:
    folder = Path(sys.argv[1])
    stamp = folder / "stamp.json"
    wanted = {"script": hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}
    if stamp.is_file() and json.loads(stamp.read_text()) == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "mlflow").mkdir(parents=True)
    for name, model in {**tabular(), "mobilenet": mobilenet()}.items():
        save(name, model, folder)
        print(f"made {name}")
    stamp.write_text(json.dumps(wanted))


if __name__ == "__main__":
    main()
