"""BentoML: `bentoml serve bentoml_app:Onnx` with FISHY_BENCH_MODELS and FISHY_BENCH_MODEL."""

import os
from pathlib import Path

import bentoml
from engine import Model


@bentoml.service(workers=2, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Onnx:
    """One model."""

    def __init__(self) -> None:
        self.model = Model(Path(os.environ["FISHY_BENCH_MODELS"]) / f"{os.environ['FISHY_BENCH_MODEL']}.onnx")

    @bentoml.api(route="/infer")
    def infer(self, inputs: list[dict]) -> dict:
        return self.model.answer({"inputs": inputs})
