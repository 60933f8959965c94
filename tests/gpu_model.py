"""A library built with `--target cuda` and its random arguments, on the CPU or on a GPU: only ctypes, with torch for memory and events."""


import ctypes
import json
import os
import re

import numpy as np
import torch

CPU, CUDA = 1, 2


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p), ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip

    def __init__(self, tensor):
        assert tensor.is_contiguous()
        shape = (ctypes.c_int64 * tensor.dim())(*tensor.shape)
        kind = CUDA if tensor.is_cuda else CPU
        code = 2 if tensor.dtype.is_floating_point else 0
        device = tensor.device.index or 0
        super().__init__(
            tensor.data_ptr(), kind, device, tensor.dim(), code, 8 * tensor.element_size(), 1, ctypes.addressof(shape), None, 0
        )
        self.keep = tensor, shape


class Context(ctypes.Structure):
    """gdl_cuda_context; the CPU takes it too, as one of device 1."""

    _fields_ = [
        ("version", ctypes.c_uint32), ("threads", ctypes.c_uint32),
        ("parallel_for", ctypes.c_void_p), ("host", ctypes.c_void_p), ("message", ctypes.c_char * 512),
        ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("stream", ctypes.c_void_p),
    ]  # fmt: skip


class Memory(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("bytes", ctypes.c_int64)]


def pointers(tensors):
    made = [None if t is None else DLTensor(t) for t in tensors]
    array = (ctypes.POINTER(DLTensor) * len(made))()
    for k, t in enumerate(made):
        if t is not None:
            array[k] = ctypes.pointer(t)
    array.keep = made
    return array


def models(folder):
    """The names of all models of a folder's libraries: `gat`, and `gat.vjp`, `gat.jvp`, `gat.vjp.vjp` .. for their derivatives."""
    stems = sorted(f[:-5] for f in os.listdir(folder) if f.endswith(".json"))
    return [name for stem in stems for name in named(stem, manifest(folder, stem))]


def named(name, about):
    derived = [named(f"{name}.{mode}", about[mode]) for mode in ("vjp", "jvp") if about[mode]]
    return [name] + sum(derived, [])


def manifest(folder, stem):
    with open(os.path.join(folder, f"{stem}.json")) as file:
        return json.load(file)


class Model:
    """A model of a library, or a derivative of it, with its random arguments, at given sizes."""

    def __init__(self, folder, name, sizes):
        stem, *modes = name.split(".")
        self.library = ctypes.CDLL(os.path.join(os.path.abspath(folder), f"lib{stem}.so"))
        self.model = manifest(folder, stem)
        for mode in modes:
            self.model = self.model[mode]
        self.real = {"float32": torch.float32, "float64": torch.float64}[self.model["dtype"]]
        self.sizes = {s: sizes.get(s, 16) for s in self.model["sizes"]}
        generator = torch.Generator().manual_seed(7)
        self.inputs = [self.argument(t, generator) for t in self.model["inputs"]]
        self.weights = [self.argument(t, generator) for t in self.model["weights"]]

    def eval(self, size):
        if isinstance(size, int):
            return size
        text = re.sub(r"[A-Za-z_][A-Za-z_0-9.]*", lambda m: str(self.sizes[m.group()]), str(size))
        return int(eval(text.replace("/", "//")))

    def argument(self, about, generator):
        shape = [self.eval(d) for d in about["shape"]]
        if "range" not in about:
            fan_in = max(1, int(np.prod(shape[1:])))
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.real) / fan_in**0.5
        values = torch.randint(0, max(1, self.eval(about["range"])), shape, generator=generator)
        if about["sorted"]:
            values = values.flatten().sort().values.reshape(shape)
        return values.to(torch.int32)

    def instance(self, device):
        return Instance(self, device)


class Instance:
    """Bound and prepared on a device."""

    def __init__(self, model, device):
        self.model, self.device = model, device
        on_gpu = device != "cpu"
        self.context = Context(version=4, device_type=CUDA if on_gpu else CPU)
        if on_gpu:
            self.context.stream = torch.cuda.current_stream().cuda_stream
        about = model.model
        tables = [t.get("given_at") == "bind" for t in about["inputs"]]
        self.given = [x if table else x.to(device) for x, table in zip(model.inputs, tables)]
        self.weights = [w.to(device) for w in model.weights]
        shape = lambda t: [model.eval(d) for d in t["shape"]]
        # poisoned: every element must be written
        self.outputs = [torch.full(shape(t), float("nan"), dtype=model.real, device=device) for t in about["outputs"]]
        self.inputs, self.made = pointers(self.given), pointers(self.outputs)
        n = len(about["sizes"])
        sizes, self.memory = (ctypes.c_int64 * max(n, 1))(), (Memory * 5)()
        self.entry("sizes", self.inputs, sizes)
        # `run` finds all sizes by itself, or cannot be used
        self.runs = all(sizes[k] >= 0 for k in range(n))
        for k, name in enumerate(about["sizes"]):
            sizes[k] = model.sizes[name] if sizes[k] < 0 else sizes[k]
            assert sizes[k] == model.sizes[name], f"{name}: {sizes[k]}, not {model.sizes[name]}"
        self.entry("memory", sizes, self.memory)
        self.blocks = []
        for k, m in enumerate(self.memory):
            where = device if k < 3 else "cpu"
            block = torch.full([m.bytes + 64], 0xA5, dtype=torch.uint8, device=where)
            self.blocks.append(block)
            m.data = block.data_ptr()
        self.entry("bind", self.inputs, sizes, self.memory)
        self.prepared = pointers(self.weights)
        self.entry("prepare", self.prepared, self.memory)

    def entry(self, step, *arguments):
        function = getattr(self.model.library, self.model.model["symbols"] + step)
        if function(ctypes.byref(self.context), *arguments) != 0:
            raise RuntimeError(self.context.message.decode())

    def call(self):
        self.entry("call", self.inputs, self.made, self.memory)

    def run(self):
        self.entry("run", self.inputs, self.prepared, self.made)


def milliseconds(call, repeats=20):
    """The median of calls timed by events, after a few to warm up; the inputs stay where they are."""
    for _ in range(3):
        call()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for begin, end in events:
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return float(np.median([begin.elapsed_time(end) for begin, end in events]))


def error(found, expected):
    """The greatest difference, relative to the greatest expected number; where all are zero, the greatest number found."""
    if expected.numel() == 0:
        return 0.0
    scale = expected.abs().max().item()
    return (found.cpu() - expected).abs().max().item() / (scale or 1.0)
