"""Triton's Python front end: `pytriton_app.py FOLDER HTTP_PORT GRPC_PORT METRICS_PORT`."""

import sys
from collections.abc import Callable

import numpy as np
from engine import Model, models
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def callable_of(model: Model) -> Callable[..., list[np.ndarray]]:
    @batch
    def infer(**inputs: np.ndarray) -> list[np.ndarray]:
        # Triton wants a row for each row, and a row to have a dimension.
        return [array.reshape(len(array), -1) for array in model.run(inputs)]

    return infer


def main() -> None:
    folder = sys.argv[1]
    http, grpc, metrics = (int(port) for port in sys.argv[2:5])
    config = TritonConfig(http_port=http, grpc_port=grpc, metrics_port=metrics, http_address="127.0.0.1")
    with Triton(config=config) as triton:
        for name, model in models(folder).items():
            outputs = [
                Tensor(
                    name=one.name,
                    dtype=np.int64 if "int64" in one.type else np.float32,
                    shape=tuple(one.shape[1:]) or (1,),
                )
                for one in model.session.get_outputs()
            ]
            triton.bind(
                model_name=name,
                infer_func=callable_of(model),
                inputs=[Tensor(name="X", dtype=np.float32, shape=(12,))],
                outputs=outputs,
                config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=500)),
            )
        triton.serve()


if __name__ == "__main__":
    main()
