"""What a team writes by hand: FastAPI and ONNX Runtime, the protocol's JSON and its binary tensors.

Run by `uvicorn fastapi_app:app` with FISHY_BENCH_MODELS naming the folder of models.
"""

import os

import numpy as np
import orjson
from engine import DATATYPES, DTYPES, models
from fastapi import FastAPI, Request, Response

app = FastAPI()
MODELS = models(os.environ["FISHY_BENCH_MODELS"])


@app.post("/v2/models/{name}/infer")
async def infer(name: str, request: Request) -> Response:
    model = MODELS[name]
    body = await request.body()
    length = request.headers.get("inference-header-content-length")
    if length is None:
        return Response(orjson.dumps(model.answer(orjson.loads(body))), media_type="application/json")
    split = int(length)
    asked = orjson.loads(body[:split])
    inputs, begin = {}, split
    for one in asked["inputs"]:
        size = one["parameters"]["binary_data_size"]
        array = np.frombuffer(body, DTYPES[one["datatype"]], size // 4, begin)
        inputs[one["name"]] = array.reshape(one["shape"])
        begin += size
    arrays = model.run(inputs)
    outputs = [
        {
            "name": output,
            "datatype": DATATYPES[array.dtype],
            "shape": list(array.shape),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for output, array in zip(model.outputs, arrays, strict=True)
    ]
    head = orjson.dumps({"model_name": name, "model_version": "1", "outputs": outputs})
    content = head + b"".join(array.tobytes() for array in arrays)
    headers = {"inference-header-content-length": str(len(head))}
    return Response(content, media_type="application/octet-stream", headers=headers)
