"""Serves one MLflow model: tensors in, tensors out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from . import sandbox
from .channel import Channel

KINDS = {
    "BOOL": "?",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
# What these say is about what was asked; anything else is a fault of the model.
FAULTS_OF_THE_REQUEST = (ValueError, TypeError, KeyError, IndexError)


def load(settings: dict[str, Any]) -> Callable[[Channel], None]:
    """Loads the model of the settings."""
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(settings["path"])

    def run(channel: Channel) -> None:
        while (frame := channel.receive()) is not None:
            header, body = frame
            sandbox.limit_processor(settings["processor_seconds"])
            try:
                asked = inputs_of(header["inputs"], body, settings["form"], settings["datetimes"])
                form, outputs = outputs_of(loaded.predict(asked, params=header.get("params")))
                told, parts = encode(outputs)
            except MemoryError:
                channel.send({"error": "it needs more memory than it may have", "code": "memory"})
            except Exception as error:
                is_request = isinstance(error, FAULTS_OF_THE_REQUEST) or is_refusal(error)
                code = "request" if is_request else "model"
                channel.send({"error": sandbox.in_words(error), "code": code})
            else:
                channel.send({"outputs": told, "form": form}, parts)

    return run


def is_refusal(error: Exception) -> bool:
    """Whether MLflow says that the request is wrong."""
    status = getattr(error, "get_http_status_code", None)
    return status is not None and 400 <= status() < 500


def inputs_of(specs: list[dict[str, Any]], body: memoryview, form: str, datetimes: list[str]) -> Any:
    """What the model is asked with: a data frame, an array, or arrays by name."""
    arrays, begin = {}, 0
    for spec in specs:
        part = body[begin : begin + spec["size"]]
        arrays[spec["name"]] = decode(part, spec["datatype"], spec["shape"])
        begin += spec["size"]
    if form == "array":
        return next(iter(arrays.values()))
    if form == "arrays":
        return arrays
    import pandas as pd

    frame = pd.DataFrame({name: column.reshape(-1) for name, column in arrays.items()})
    for name in datetimes:
        frame[name] = pd.to_datetime(frame[name])
    return frame


def decode(part: memoryview, datatype: str, shape: list[int]) -> Any:
    """An array out of the protocol's binary form."""
    import numpy as np

    if datatype != "BYTES":
        # A copy: models may write into what they are given.
        return np.frombuffer(part, dtype=KINDS[datatype]).reshape(shape).copy()
    texts, begin = [], 0
    while begin < len(part):
        size = int.from_bytes(part[begin : begin + 4], "little")
        texts.append(str(part[begin + 4 : begin + 4 + size], "utf-8"))
        begin += 4 + size
    return np.array(texts, dtype=object).reshape(shape)


def outputs_of(result: Any) -> tuple[str, list[tuple[str, Any]]]:
    """The answer of a model as named arrays, and what it was: an `array`, `records` by row, or `arrays` by name."""
    import numpy as np
    import pandas as pd

    if isinstance(result, pd.DataFrame):
        return "records", [(str(name), result[name].to_numpy()) for name in result.columns]
    if isinstance(result, dict):
        return "arrays", [(str(name), np.asarray(values)) for name, values in result.items()]
    if isinstance(result, pd.Series):
        result = result.to_numpy()
    elif hasattr(result, "toarray"):
        result = result.toarray()
    return "array", [("predictions", np.asarray(result))]


def encode(outputs: list[tuple[str, Any]]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Named arrays in the protocol's binary form."""
    import numpy as np

    told, parts = [], []
    for name, array in outputs:
        if array.ndim == 0:
            array = array.reshape(1)
        if array.dtype.kind in "OUSMm":
            array = as_numbers(array)
        if array.dtype.kind in "OUSMm":
            datatype, part = "BYTES", b"".join(map(length_and_text, texts_of(array)))
        else:
            little = array.dtype.newbyteorder("<")
            kind = np.dtype(little).str
            datatype = next((known for known, code in KINDS.items() if np.dtype(code).str == kind), "")
            if not datatype:
                raise RuntimeError(f"output {name!r} is of type {array.dtype}, which the protocol does not have")
            part = np.ascontiguousarray(array, dtype=little).tobytes()
        told.append({"name": name, "datatype": datatype, "shape": list(array.shape), "size": len(part)})
        parts.append(part)
    return told, parts


def as_numbers(array: Any) -> Any:
    """Objects that are numbers, or missing, as numbers; else what it was."""
    values = array.reshape(-1).tolist() if array.dtype.kind == "O" else []
    is_number = all(value is None or type(value) in (int, float) for value in values)
    return array.astype("<f8") if values and is_number else array


def texts_of(array: Any) -> list[str]:
    """The elements as texts; what is none of these is written as JSON."""
    if array.dtype.kind in "Mm":
        return [str(value) for value in array.reshape(-1)]
    texts = []
    for value in array.reshape(-1).tolist():
        if isinstance(value, bytes):
            texts.append(value.decode())
        else:
            texts.append(value if isinstance(value, str) else json.dumps(value, default=str))
    return texts


def length_and_text(text: str) -> bytes:
    """One element of type BYTES."""
    data = text.encode()
    return len(data).to_bytes(4, "little") + data
