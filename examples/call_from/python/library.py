"""A compiled model as a Python object, with only NumPy and ctypes.

`gdlc build NAME.gdl -o FOLDER` writes libNAME.so and its manifest NAME.json; `Library(FOLDER, NAME)` loads both.
"""

import ctypes
import json
import math
import os

import numpy as np

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
    """DLPack's DLTensor of a row-major array in the host's memory."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("device_kind", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p), ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip

    def __init__(self, array):
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        code = 2 if array.dtype.kind == "f" else 0
        super().__init__(array.ctypes.data, 1, 0, array.ndim, code, array.itemsize * 8, 1, ctypes.addressof(shape), None, 0)
        self.keep = array, shape


def pointers(arrays):
    """A C array of pointers to tensors."""
    tensors = [Tensor(a) for a in arrays]
    array = (ctypes.POINTER(Tensor) * len(tensors))(*map(ctypes.pointer, tensors))
    array.keep = tensors
    return array


class Context(ctypes.Structure):
    """How many threads (0: all), and where the reason of a failure is left."""

    _fields_ = [
        ("version", ctypes.c_uint32), ("threads", ctypes.c_uint32),
        ("parallel_for", ctypes.c_void_p), ("host", ctypes.c_void_p), ("message", ctypes.c_char * 512),
    ]  # fmt: skip


class Memory(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("bytes", ctypes.c_int64)]


class Library:
    """A compiled model. Arrays go in and out by name."""

    def __init__(self, folder, name):
        path = os.path.join(os.path.abspath(folder), name)
        self.library = ctypes.CDLL(os.path.join(os.path.abspath(folder), f"lib{name}.so"))
        with open(f"{path}.json") as file:
            self.model = json.load(file)
        self.context = Context(version=3)

    def entry(self, step, *arguments):
        """Calls one of the library's functions; a failure is an exception with the library's own words."""
        function = getattr(self.library, self.model["symbols"] + step)
        if function(ctypes.byref(self.context), *arguments) != 0:
            raise ValueError(self.context.message.decode())

    def arrays(self, kind, given):
        return pointers([np.ascontiguousarray(given[t["name"]]) for t in self.model[kind]])

    def random_weights(self, seed=0):
        """Weights of standard deviation 1/sqrt(fan-in), to time a model."""
        rng = np.random.default_rng(seed)
        draw = lambda shape: rng.standard_normal(shape).astype(np.float32) / math.sqrt(max(1, math.prod(shape[1:])))
        return {t["name"]: draw(t["shape"]) for t in self.model["weights"]}

    def run(self, inputs, weights, outputs):
        """Everything at once: fills the arrays `outputs`, in the order of the manifest."""
        self.entry("run", self.arrays("inputs", inputs), self.arrays("weights", weights), pointers(outputs))

    def bound(self, inputs, weights, shape):
        """The domain bound and the weights prepared once; returns a function that only computes the output of this shape, or all
        outputs where `shape` is a list."""
        outputs = [np.empty(s, np.float32) for s in (shape if isinstance(shape, list) else [shape])]
        given, made = self.arrays("inputs", inputs), pointers(outputs)
        sizes, memory = (ctypes.c_int64 * 256)(), (Memory * 3)()
        self.entry("sizes", given, sizes)
        # the number of samples follows from no shape: it is the greatest index of a sample plus one
        samples = 1 + max((int(table.max()) for name, table in inputs.items() if name.endswith(".index")), default=0)
        for k in range(len(self.model["sizes"])):
            sizes[k] = samples if sizes[k] < 0 else sizes[k]
        self.entry("memory", sizes, memory)
        blocks = [np.empty(m.bytes + 64, np.uint8) for m in memory]
        for m, block in zip(memory, blocks):
            m.data = -(-block.ctypes.data // 64) * 64  # aligned to a cache line
        self.entry("bind", given, sizes, memory)
        self.entry("prepare", self.arrays("weights", weights or self.random_weights()), memory)

        def call(keep=blocks):
            self.entry("call", given, made, memory)
            return outputs if isinstance(shape, list) else outputs[0]

        return call
