"""The model as a `torch.nn.Module`, whose forward pass is one operator of the dispatcher (`torch_operators`)."""
import torch

from . import library as _library
from . import CLASS as _class
from . import MODEL as _model
from .torch_operators import call as _call

_REAL = getattr(torch, _model.real)
_PATHS = [argument.name.split(".") for argument in _model.weights]


class _Names(torch.nn.Module):
    """A part of the weights' names."""


def _start(argument):
    kind, scale = argument.about.removeprefix("starts as ").split(" ")
    weight = torch.empty(argument.shape([]), dtype=_REAL)
    return weight.normal_(0.0, float(scale)) if kind == "normal" else weight.fill_(float(scale))


def _greatest(index):
    # what is no index is refused by the operator, by its name
    return int(index.max() if index.dtype in (torch.int32, torch.int64) else index.flatten()[-1])


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
        for argument, x in zip(_model.inputs, inputs):
            if not torch.is_tensor(x) and x is not None:
                raise TypeError(f"`{argument.name}` is of {type(x)}, and needs to be a tensor")
        inputs, given = _library.completed(
            _model, inputs, given, lambda n: torch.zeros(n, dtype=torch.int64), _greatest
        )
        found = _call([*inputs, *self._weights()], _model.solve([x.shape for x in inputs], given), len(_model.outputs))
        return found[0] if len(found) == 1 else tuple(found)


Model.__name__ = Model.__qualname__ = _class
globals()[_class] = Model
