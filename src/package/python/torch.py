"""The model as a `torch.nn.Module`. Its operators are operators of the dispatcher with fake kernels, batching and derivatives by both modes,
to the order the library was built with (`gdlc build --grad N`). The library's own kernel serves them through LibTorch's stable C interface;
where this PyTorch is older than that, or GDL_TORCH=python, a kernel in Python does."""
import ctypes
import os

import torch
import torch.autograd.forward_ad as _forward
from torch._functorch.autograd_function import enable_single_level_autograd_function as _one_level
from torch.autograd.function import _SingleLevelFunction

from . import library as _library
from . import CLASS as _class
from . import MODEL as _model
from . import NAME as _name

_REAL = getattr(torch, _model.real)
_DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.int32: "int32", torch.int64: "int64"}
_namespace = torch.library.Library(f"gdl_{_name}", "DEF")
_WHOLE = torch._C._after_autograd_keyset


def _checked(argument, x):
    """The tensor as the library reads it; or an error that says what to do."""
    if x.device.type != "cpu":
        raise RuntimeError(f"`{argument.name}` is on {x.device}; this library computes on the CPU: move it with `.cpu()`")
    if argument.real and x.dtype != _REAL:
        raise RuntimeError(f"`{argument.name}` is {x.dtype}; the library was built for {_REAL}: convert it, or build with --dtype")
    if not argument.real and x.dtype not in (torch.int32, torch.int64):
        raise RuntimeError(f"`{argument.name}` is {x.dtype}; indices are int32 or int64")
    return x.detach().contiguous()


def _view(x):
    return x.data_ptr(), tuple(x.shape), _DTYPES[x.dtype]


def _shim():
    """The functions of LibTorch that the library's kernel needs, and those that register it; None where they are not there."""
    if os.environ.get("GDL_TORCH") == "python":
        return None
    path = os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so")
    names = ["get_data_ptr", "get_dim", "get_sizes", "get_strides", "get_dtype", "get_device_type", "empty_strided", "delete_tensor_object", "check"]
    try:
        shim = ctypes.CDLL(path)
        shim.aoti_torch_library_init_impl, shim.aoti_torch_library_impl
        addresses = [ctypes.cast(getattr(shim, f"aoti_torch_{name}"), ctypes.c_void_p) for name in names]
    except (OSError, AttributeError):
        return None
    shim.table = (ctypes.c_void_p * len(names))(*addresses)
    _model.entry("torch_functions")(shim.table)
    shim.handle = ctypes.c_void_p()
    failed = shim.aoti_torch_library_init_impl(f"gdl_{_name}".encode(), b"CPU", b"torch.py", 0, ctypes.byref(shim.handle))
    return None if failed else shim


_shim = _shim()


class _Operator:
    """The operator of a model: inputs, then weights, then all run-time sizes. Its derivatives are the operators of `model.vjp` and `model.jvp`."""

    def __init__(self, model):
        self.model = model
        self.arguments = model.inputs + model.weights
        self.n_tensors = len(self.arguments)
        self.vjp = model.vjp and _Operator(model.vjp)
        self.jvp = model.jvp and _Operator(model.jvp)
        word = model.name.removeprefix(f"{_name}_") if model.order else "forward"
        parameters = [f"Tensor a{k}" for k in range(self.n_tensors)] + [f"SymInt s{k}" for k in range(len(model.sizes))]
        results = ", ".join(["Tensor"] * len(model.outputs))
        name = f"gdl_{_name}::{word}"
        _namespace.define(f"{word}({', '.join(parameters)}) -> ({results})", tags=(torch.Tag.pt2_compliant_tag,))
        self.call = getattr(getattr(torch.ops, f"gdl_{_name}"), word).default
        native = _shim and not _shim.aoti_torch_library_impl(_shim.handle, word.encode(), model.entry("torch"))
        if not native:
            _namespace.impl(word, self.kernel, "CPU")
        for device in ["CUDA", "MPS", "XPU"]:
            _namespace.impl(word, self.kernel, device)
        torch.library.register_fake(name, self.fake, lib=_namespace)
        torch.library.register_vmap(name, self.batched, lib=_namespace)
        # the transforms of torch.func come to the operator one by one, so that its function is of one level
        self.function = type(f"{_class}_{word}", (_SingleLevelFunction,), _function(self))
        _namespace.impl(word, self.differentiable, "Autograd", with_keyset=True)

    def results(self, outputs):
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def kernel(self, *values):
        n_inputs = len(self.model.inputs)
        tensors = [_checked(a, x) for a, x in zip(self.arguments, values)]
        outputs = [torch.empty(a.shape(values[self.n_tensors:]), dtype=_REAL) for a in self.model.outputs]
        views = [_view(x) for x in tensors]
        self.model.run(views[:n_inputs], views[n_inputs:], [_view(y) for y in outputs])
        return self.results(outputs)

    def fake(self, *values):
        for a, x in zip(self.arguments, values):
            if a.real and x.dtype != _REAL:
                raise RuntimeError(f"`{a.name}` is {x.dtype}; the library was built for {_REAL}: convert it, or build with --dtype")
        return self.results([values[0].new_empty(a.shape(values[self.n_tensors:]), dtype=_REAL) for a in self.model.outputs])

    def batched(self, info, in_dims, *values):
        """One call an element of the batch."""
        def element(k):
            return [x if d is None else x.select(d, k) for x, d in zip(values, in_dims)]

        if info.batch_size == 0:
            raise RuntimeError(f"gdl_{_name}: vmap over a batch of no elements")
        all_results = [self.call(*element(k)) for k in range(info.batch_size)]
        if len(self.model.outputs) == 1:
            return torch.stack(all_results), 0
        return tuple(torch.stack(parts) for parts in zip(*all_results)), tuple(0 for _ in self.model.outputs)

    def below(self, keys, values):
        with torch._C._AutoDispatchBelowAutograd():
            return self.call.redispatch(keys & _WHOLE, *values)

    def differentiable(self, keys, *values):
        needed = torch.is_grad_enabled() and torch._C._any_requires_grad(*values)
        if not needed and _forward._current_level >= 0:
            tensors = values[:self.n_tensors]
            needed = any(x.is_floating_point() and _forward.unpack_dual(x).tangent is not None for x in tensors)
        if not needed:
            return self.below(keys, values)
        if not torch._C._are_functorch_transforms_active():
            return self.function.apply(keys, *values)
        with _one_level():
            return self.function.apply(keys, *values)

    def derivative(self, operator, values, changes):
        """The operator of a derivative: its inputs are those of this one and then the changes."""
        if operator is None:
            raise RuntimeError(self.model.needed())
        n_inputs = len(self.model.inputs)
        tensors, sizes = values[:self.n_tensors], values[self.n_tensors:]
        found = operator.call(*tensors[:n_inputs], *changes, *tensors[n_inputs:], *sizes)
        return (found,) if torch.is_tensor(found) else found


def _function(operator):
    """What `torch.autograd.Function` needs for an operator; the set of dispatch keys comes first."""
    def forward(keys, *values):
        if not torch._C._are_functorch_transforms_active():
            return operator.below(keys, values)
        # the transforms further out derive what is below
        with torch.enable_grad(), _forward._set_fwd_grad_enabled(True):
            return operator.below(keys, values)

    def setup_context(ctx, inputs, output):
        ctx.keys, values = inputs[0], inputs[1:]
        ctx.save_for_backward(*values[:operator.n_tensors])
        ctx.save_for_forward(*values[:operator.n_tensors])
        ctx.sizes = values[operator.n_tensors:]

    def backward(ctx, *cotangents):
        found = iter(operator.derivative(operator.vjp, (*ctx.saved_tensors, *ctx.sizes), cotangents))
        gradients = [next(found) if a.real else None for a in operator.arguments]
        return (None, *gradients, *[None] * len(ctx.sizes))

    def jvp(ctx, _, *tangents):
        values = (*ctx.saved_tensors, *ctx.sizes)
        real = [(x, t) for a, x, t in zip(operator.arguments, values, tangents) if a.real]
        changes = [torch.zeros_like(x) if t is None else t for x, t in real]
        return operator.results(operator.derivative(operator.jvp, values, changes))

    return {f.__name__: staticmethod(f) for f in (forward, setup_context, backward, jvp)}


_call = _Operator(_model).call
_PATHS = [argument.name.split(".") for argument in _model.weights]


class _Names(torch.nn.Module):
    """A part of the weights' names."""


def _start(argument):
    kind, scale = argument.about.removeprefix("starts as ").split(" ")
    weight = torch.empty(argument.shape([]), dtype=_REAL)
    return weight.normal_(0.0, float(scale)) if kind == "normal" else weight.fill_(float(scale))


class Model(torch.nn.Module):
    """The model. Weights have the names of the safetensors of `gdlc run`, and start as derived.

    `forward` takes the model's arguments in order, the tables of its domains by the last word of their names (`senders=`, `receivers=`,
    `index=`), and, where no shape says it, a size by its name (`samples=`; else it follows from `index`).
    """

    def __init__(self):
        super().__init__()
        for argument, (*path, last) in zip(_model.weights, _PATHS):
            at = self
            for word in path:
                # not by add_module, which refuses words that modules use themselves
                at = at._modules.setdefault(word, _Names())
            at._parameters[last] = torch.nn.Parameter(_start(argument))

    def _weights(self):
        weights = []
        for *path, last in _PATHS:
            at = self
            for word in path:
                at = at._modules[word]
            weights.append(at._parameters[last])
        return weights

    def forward(self, *arguments, **tables):
        inputs, given = _library.arrange(_model, arguments, tables, torch.is_tensor)
        inputs, given = _library.completed(
            _model, inputs, given, lambda n: torch.zeros(n, dtype=torch.int64), lambda index: int(index[-1])
        )
        return _call(*inputs, *self._weights(), *_model.solve([x.shape for x in inputs], given))


Model.__name__ = Model.__qualname__ = _class
globals()[_class] = Model
