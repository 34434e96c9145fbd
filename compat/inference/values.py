"""Values of every datatype for the model that gives back what it takes."""

import os

import numpy as np

URL = os.environ["FISHY_URL"]
ADDRESS = URL.split("://", 1)[1]
ECHO = os.environ["FISHY_ECHO"]
SUMS = os.environ["FISHY_SUMS"]

VALUES = {
    "bool": ("BOOL", np.array([True, False])),
    "int8": ("INT8", np.array([-128, 127], np.int8)),
    "int16": ("INT16", np.array([-32768, 7], np.int16)),
    "int32": ("INT32", np.array([-(2**31), 7], np.int32)),
    "int64": ("INT64", np.array([-(2**63), 7], np.int64)),
    "uint8": ("UINT8", np.array([0, 255], np.uint8)),
    "uint16": ("UINT16", np.array([0, 65535], np.uint16)),
    "uint32": ("UINT32", np.array([0, 2**32 - 1], np.uint32)),
    "uint64": ("UINT64", np.array([0, 2**64 - 1], np.uint64)),
    "fp16": ("FP16", np.array([1.5, -65504.0], np.float16)),
    "fp32": ("FP32", np.array([0.1, -3e38], np.float32)),
    "fp64": ("FP64", np.array([0.1, -1e300], np.float64)),
    "bytes": ("BYTES", np.array(["Tromsø".encode(), b""], np.object_)),
}

A = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
B = np.array([[0.5, 0.25], [1.0, 8.0]], np.float32)
