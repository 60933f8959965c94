"""The model on NumPy arrays: `y = model(weights, x, senders=..., receivers=...)`."""
import ctypes

import numpy

from . import library as _library
from . import MODEL as _model


_REAL = numpy.dtype(_model.real)
_NAMES = {numpy.dtype(name): name for name in (_model.real, "int32", "int64")}


def _array(argument, x):
    """The array as the library reads it: real numbers of any width are converted, indices of any width that fits."""
    array = x if type(x) is numpy.ndarray else numpy.asarray(x)
    dtype = array.dtype
    if (dtype == _REAL if argument.real else dtype in _NAMES and dtype != _REAL) and array.flags.c_contiguous:
        return array
    fits = dtype.kind in "biuf" if argument.real else dtype.kind in "iu" and dtype != numpy.uint64
    if not fits and array.size:
        needed = _model.real if argument.real else "int32 or int64"
        raise TypeError(f"`{argument.name}` is {dtype}, and needs {needed}")
    if argument.real:
        return numpy.ascontiguousarray(array, dtype=_model.real)
    return numpy.ascontiguousarray(array if dtype in (numpy.int32, numpy.int64) else array.astype(numpy.int64))


def _view(array):
    try:
        # `array.ctypes` takes ten times as long
        address = ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # one that is not to be written, or has no elements
        address = array.ctypes.data
    return address, array.shape, _NAMES[array.dtype]


def run(model, weights, inputs, sizes={}):
    """A model of the library on arrays in order; `sizes` gives what no shape says."""
    given = [*map(_array, model.inputs, inputs), *map(numpy.asarray, inputs[len(model.inputs):])]
    _, outputs = model.fit(tuple([x.shape for x in given]), sizes)
    try:
        weights = [_array(a, weights[a.name]) for a in model.weights]
    except KeyError as missing:
        raise KeyError(f"the weight `{missing.args[0]}` is missing") from None
    outputs = [numpy.empty(shape, _REAL) for shape in outputs]
    model.run([_view(x) for x in (*given, *weights, *outputs)])
    return outputs


def _arguments(arguments, tables):
    inputs, sizes = _library.arrange(_model, arguments, tables, lambda x: numpy.ndim(x) > 0)
    inputs = [x if x is None else numpy.asarray(x) for x in inputs]
    return _library.completed(_model, inputs, sizes, lambda n: numpy.zeros(n, dtype=numpy.int64), lambda x: int(x.max()))


def call(weights, *arguments, **tables):
    """The outputs for weights by name (a dict of arrays, as `safetensors.numpy.load_file` reads them). One output alone is returned as it is."""
    inputs, sizes = _arguments(arguments, tables)
    outputs = run(_model, weights, inputs, sizes)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def vjp(weights, cotangents, *arguments, **tables):
    """`sum of cotangent * output` derived by each real input and each weight: a dict by name. `cotangents` has one array an output."""
    if _model.vjp is None:
        raise RuntimeError(_model.needed())
    inputs, sizes = _arguments(arguments, tables)
    gradients = run(_model.vjp, weights, [*inputs, *cotangents], sizes)
    return {a.name.removeprefix("grad."): g for a, g in zip(_model.vjp.outputs, gradients)}


def jvp(weights, tangents, *arguments, **tables):
    """What the outputs change by where the real inputs and the weights change by `tangents`, a dict by name of arrays; what is not named stays.
    One output alone is returned as it is."""
    if _model.jvp is None:
        raise RuntimeError(_model.needed())
    inputs, sizes = _arguments(arguments, tables)
    shapes = {**weights, **{a.name: x for a, x in zip(_model.inputs, inputs)}}
    names = [a.name for a in (*_model.inputs, *_model.weights) if a.real]
    unknown = set(tangents) - set(names)
    if unknown:
        raise TypeError(f"`{min(unknown)}` is neither a real input nor a weight ({', '.join(names)})")
    changes = [tangents[name] if name in tangents else numpy.zeros(shapes[name].shape) for name in names]
    outputs = run(_model.jvp, weights, [*inputs, *changes], sizes)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def initial(seed):
    """Weights as they are derived to start."""
    rng = numpy.random.default_rng(seed)
    weights = {}
    for a in _model.weights:
        shape, (kind, scale) = a.shape([]), a.about.removeprefix("starts as ").split(" ")
        start = rng.standard_normal(shape) if kind == "normal" else numpy.ones(shape)
        weights[a.name] = (float(scale) * start).astype(_model.real)
    return weights
