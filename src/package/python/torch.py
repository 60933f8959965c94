"""The model as a `torch.nn.Module`. Its operators are `torch.library` operators with fake kernels and derivatives, to the order
the library was built with (`gdlc build --grad N`)."""
import torch
import torch.autograd.forward_ad as _forward

from . import library as _library
from . import CLASS as _class
from . import MODEL as _model
from . import NAME as _name

_REAL = getattr(torch, _model.real)
_DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.int32: "int32", torch.int64: "int64"}
_namespace = torch.library.Library(f"gdl_{_name}", "DEF")


def _checked(argument, x):
    """The tensor as the library reads it; or an error that says what to do."""
    if x.device.type != "cpu":
        raise ValueError(f"`{argument.name}` is on {x.device}; this library computes on the CPU: move it with `.cpu()`")
    if argument.real and x.dtype != _REAL:
        raise TypeError(f"`{argument.name}` is {x.dtype}; the library was built for {_REAL}: convert it, or build with --dtype")
    if not argument.real and x.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"`{argument.name}` is {x.dtype}; indices are int32 or int64")
    return x.detach().contiguous()


def _view(x):
    return x.data_ptr(), tuple(x.shape), _DTYPES[x.dtype]


def _operator(model, order):
    """Defines the operator of a model: inputs, then weights, then all run-time sizes; its derivatives by the operator of `model.vjp`."""
    arguments = model.inputs + model.weights
    n_inputs, n_tensors = len(model.inputs), len(arguments)
    parameters = [f"Tensor a{k}" for k in range(n_tensors)] + [f"SymInt s{k}" for k in range(len(model.sizes))]
    results = ", ".join(["Tensor"] * len(model.outputs))
    word = "forward" if order == 0 else f"derivative{order}"
    _namespace.define(f"{word}({', '.join(parameters)}) -> ({results})", tags=(torch.Tag.pt2_compliant_tag,))
    name = f"gdl_{_name}::{word}"
    single = len(model.outputs) == 1

    def kernel(*values):
        tensors = [_checked(a, x) for a, x in zip(arguments, values)]
        outputs = [torch.empty(a.shape(values[n_tensors:]), dtype=_REAL) for a in model.outputs]
        views = [_view(x) for x in tensors]
        model.run(views[:n_inputs], views[n_inputs:], [_view(y) for y in outputs])
        return outputs[0] if single else tuple(outputs)

    def fake(*values):
        outputs = [values[0].new_empty(a.shape(values[n_tensors:]), dtype=_REAL) for a in model.outputs]
        return outputs[0] if single else tuple(outputs)

    def setup(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:n_tensors])
        ctx.sizes = inputs[n_tensors:]

    if model.vjp is None:
        def backward(ctx, *cotangents):
            raise RuntimeError(
                f"the library `{_name}` has derivatives to order {order}; build it again with `gdlc build --grad {order + 1}`"
            )
    else:
        further = _operator(model.vjp, order + 1)

        def backward(ctx, *cotangents):
            tensors = ctx.saved_tensors
            found = further(*tensors[:n_inputs], *cotangents, *tensors[n_inputs:], *ctx.sizes)
            found = iter([found] if torch.is_tensor(found) else found)
            gradients = [next(found) if a.real else None for a in arguments]
            return (*gradients, *[None] * len(ctx.sizes))

    _namespace.impl(word, kernel, "CPU")
    torch.library.register_fake(name, fake, lib=_namespace)
    torch.library.register_autograd(name, backward, setup_context=setup, lib=_namespace)
    return getattr(getattr(torch.ops, f"gdl_{_name}"), word).default


_call = _operator(_model, 0)


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
        for argument in _model.weights:
            *path, last = argument.name.split(".")
            at = self
            for word in path:
                # not by add_module, which refuses words that modules use themselves
                at = at._modules.setdefault(word, _Names())
            at._parameters[last] = torch.nn.Parameter(_start(argument))

    def _weights(self):
        for argument in _model.weights:
            *path, last = argument.name.split(".")
            at = self
            for word in path:
                at = at._modules[word]
            yield at._parameters[last]

    def forward(self, *arguments, **tables):
        inputs, given = _library.arrange(_model, arguments, tables, torch.is_tensor)
        lengths = {}
        for a, x in zip(_model.inputs, inputs):
            if x is not None:
                for (var, scale, offset, divisor), n in zip(a.dims, x.shape):
                    if (scale, offset, divisor) == (1, 0, 1):
                        lengths[var] = n
        inputs = [
            torch.zeros(lengths[a.dims[0][0]], dtype=torch.int64) if x is None else x for a, x in zip(_model.inputs, inputs)
        ]
        if "samples" in _model.sizes and "samples" not in given:
            index = [x for a, x in zip(_model.inputs, inputs) if _library.keyword(a) == "index"]
            if index:
                given["samples"] = int(index[0][-1]) + 1 if len(index[0]) else 0
        sizes = _model.solve([x.shape for x in inputs], given)
        for name, size in zip(_model.sizes, sizes):
            if size is None:
                raise TypeError(f"the size `{name}` follows from no input: give it by name")
        tensors = [*inputs, *self._weights()]
        if not torch.compiler.is_compiling() and _forward._current_level >= 0:
            if any(_forward.unpack_dual(x).tangent is not None for x in tensors if x.is_floating_point()):
                raise NotImplementedError("forward mode is not built: use reverse mode, `torch.autograd.grad` or `torch.func.grad`")
        return _call(*tensors, *sizes)


Model.__name__ = Model.__qualname__ = _class
globals()[_class] = Model
