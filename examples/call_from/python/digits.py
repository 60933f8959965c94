"""Classifies held-out digits with a compiled library, using only NumPy and ctypes.

    gdlc build examples/digits.gdl -o out
    python examples/call_from/python/digits.py out
"""

import ctypes
import json
import os
import sys

import numpy as np

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "data")
KINDS = {"F32": np.float32, "F64": np.float64, "I32": np.int32, "I64": np.int64}


def read(path):
    """The tensors of a safetensors file: a length, a header in JSON, the numbers."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    header.pop("__metadata__", None)
    part = lambda t: np.frombuffer(data[slice(*t["data_offsets"])], KINDS[t["dtype"]]).reshape(t["shape"])
    return {name: part(t) for name, t in header.items()}


class Tensor(ctypes.Structure):
    """DLPack's DLTensor; strides left out, the array is row-major."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("device_kind", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p), ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip

    def __init__(self, array):
        self.keep = np.ascontiguousarray(array), (ctypes.c_int64 * array.ndim)(*array.shape)
        code = 2 if array.dtype.kind == "f" else 0
        address = ctypes.addressof(self.keep[1])
        super().__init__(self.keep[0].ctypes.data, 1, 0, array.ndim, code, array.itemsize * 8, 1, address, None, 0)


def pointers(arrays):
    """An array of pointers to tensors; the tensors live as long as it does."""
    tensors = [Tensor(a) for a in arrays]
    array = (ctypes.POINTER(Tensor) * len(tensors))(*map(ctypes.pointer, tensors))
    array.keep = tensors
    return array


class Context(ctypes.Structure):
    """Threads, and the reason of a failure."""

    _fields_ = [
        ("version", ctypes.c_uint32), ("threads", ctypes.c_uint32),
        ("parallel_for", ctypes.c_void_p), ("host", ctypes.c_void_p), ("message", ctypes.c_char * 512),
    ]  # fmt: skip


def main(folder):
    library = ctypes.CDLL(os.path.join(os.path.abspath(folder), "libdigits.so"))
    weights = read(os.path.join(DATA, "digits.weights.safetensors"))
    data = read(os.path.join(DATA, "digits.safetensors"))
    order = [f"linear{k}.{part}" for k in (1, 2, 3) for part in ("weight", "bias")]  # as in digits.h
    logits = np.empty((len(data["x"]), 10), np.float32)
    context = Context(version=1)
    status = library.gdl_digits_run(
        ctypes.byref(context), pointers([data["x"]]), pointers([weights[name] for name in order]), pointers([logits])
    )
    if status != 0:
        sys.exit(f"gdl_digits_run: {context.message.decode()}")
    right = logits.argmax(1) == data["labels"]
    for g in range(8):
        print(f"orientation {g}: accuracy {right[data['orientation'] == g].mean():.3f}")
    return logits


if __name__ == "__main__":
    main(sys.argv[1])
