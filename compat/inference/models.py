"""Models for the tests of this folder, and their way into a deployment: the mlflow client, then our API."""

import json
import os
import urllib.request

import mlflow
import onnx
from onnx import TensorProto, helper

URL = os.environ.get("FISHY_URL", "")

KINDS = {
    "bool": TensorProto.BOOL,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "fp16": TensorProto.FLOAT16,
    "fp32": TensorProto.FLOAT,
    "fp64": TensorProto.DOUBLE,
    "bytes": TensorProto.STRING,
}


def model(name, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, initializer=list(initializers))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def echo():
    """An input and an output of each datatype."""

    def value(name, kind):
        return helper.make_tensor_value_info(name, kind, ["n"])

    return model(
        "echo",
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in KINDS],
        [value(name, kind) for name, kind in KINDS.items()],
        [value(f"{name}_out", kind) for name, kind in KINDS.items()],
    )


def sums():
    """The sum and the difference of two matrices."""

    def value(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])

    return model(
        "sums",
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
        [value("a"), value("b")],
        [value("sum"), value("difference")],
    )


def linear():
    """y = x . [1, 2, 3]"""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3, 1], [1.0, 2.0, 3.0])
    return model(
        "linear",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [weights],
    )


def deploy(made, name, **about):
    """Logs, registers and deploys; `about` goes to `log_model`."""
    mlflow.set_tracking_uri(URL)
    mlflow.set_registry_uri(URL)
    mlflow.set_experiment(f"inference-{name}")
    with mlflow.start_run():
        mlflow.onnx.log_model(made, name="model", registered_model_name=name, **about)
    body = json.dumps({"name": name, "model": f"models:/{name}/1"}).encode()
    request = urllib.request.Request(f"{URL}/api/v1/deployments/{name}", data=body, method="PUT")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        deployed = json.load(answer)
    assert deployed.get("problem") is None and deployed["current"]["version"] == "1", deployed
    return name
