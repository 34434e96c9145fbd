"""What every peer does with a request of the Open Inference Protocol: no validation, no batching, no metrics."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

DTYPES = {"FP32": np.float32, "INT64": np.int64}
DATATYPES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


def session(path: Path) -> onnxruntime.InferenceSession:
    """One thread a session: the processes are what is scaled."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Model:
    """A session, and the names of what it gives."""

    def __init__(self, path: Path) -> None:
        self.session = session(path)
        self.outputs = [output.name for output in self.session.get_outputs()]

    def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self.session.run(None, inputs)

    def answer(self, request: dict) -> dict:
        """JSON in, JSON out."""
        inputs = {
            one["name"]: np.array(one["data"], dtype=DTYPES[one["datatype"]]).reshape(one["shape"])
            for one in request["inputs"]
        }
        outputs = [
            {
                "name": name,
                "datatype": DATATYPES[array.dtype],
                "shape": list(array.shape),
                "data": array.ravel().tolist(),
            }
            for name, array in zip(self.outputs, self.run(inputs), strict=True)
        ]
        return {"model_name": "model", "model_version": "1", "outputs": outputs}


def models(folder: str | Path) -> dict[str, Model]:
    """All models of the folder by name."""
    return {path.stem: Model(path) for path in sorted(Path(folder).glob("*.onnx"))}


if __name__ == "__main__":
    print({name: model.outputs for name, model in models(sys.argv[1]).items()})
