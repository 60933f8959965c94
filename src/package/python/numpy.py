"""The model on NumPy arrays: `y = model(weights, x, senders=..., receivers=...)`."""
import numpy

from . import library as _library
from . import MODEL as _model


def _real(array):
    return numpy.ascontiguousarray(array, dtype=_model.real)


def _indices(array):
    array = numpy.ascontiguousarray(array)
    return array if array.dtype in (numpy.int32, numpy.int64) else array.astype(numpy.int64, casting="safe")


def _view(array):
    return array.ctypes.data, array.shape, array.dtype.name


def run(model, weights, inputs, sizes=()):
    """A model of the library on arrays in order; `sizes` gives what no shape says."""
    inputs = [_real(x) if a.real else _indices(x) for a, x in zip(model.inputs, inputs)]
    weights = [_real(weights[a.name]) for a in model.weights]
    found = model.solve([x.shape for x in inputs], sizes)
    for name, size in zip(model.sizes, found):
        if size is None:
            raise TypeError(f"the size `{name}` follows from no input: give it by name")
    outputs = [numpy.empty(a.shape(found), dtype=model.real) for a in model.outputs]
    model.run([_view(x) for x in inputs], [_view(w) for w in weights], [_view(y) for y in outputs])
    return outputs


def completed(inputs, sizes):
    """The inputs with what may be left out: all points belong to one sample, and there are as many samples as the index says."""
    shapes = {}
    for a, x in zip(_model.inputs, inputs):
        if x is not None:
            for (var, scale, offset, divisor), n in zip(a.dims, numpy.shape(x)):
                if (scale, offset, divisor) == (1, 0, 1):
                    shapes[var] = n
    done = []
    for a, x in zip(_model.inputs, inputs):
        done.append(numpy.zeros(shapes[a.dims[0][0]], dtype=numpy.int64) if x is None else x)
    if "samples" in _model.sizes and "samples" not in sizes:
        index = [x for a, x in zip(_model.inputs, done) if _library.keyword(a) == "index"]
        if index:
            sizes = dict(sizes, samples=int(index[0][-1]) + 1 if len(index[0]) else 0)
    return done, sizes


def call(weights, *arguments, **tables):
    """The outputs for weights by name (a dict of arrays, as `safetensors.numpy.load_file` reads them). One output alone is returned as it is."""
    inputs, sizes = _library.arrange(_model, arguments, tables, lambda x: numpy.ndim(x) > 0)
    inputs, sizes = completed(inputs, sizes)
    outputs = run(_model, weights, inputs, sizes)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def vjp(weights, cotangents, *arguments, **tables):
    """`sum of cotangent * output` derived by each real input and each weight: a dict by name. `cotangents` has one array an output."""
    if _model.vjp is None:
        raise RuntimeError("this library has no derivatives: build it with `gdlc build --grad 1`")
    inputs, sizes = _library.arrange(_model, arguments, tables, lambda x: numpy.ndim(x) > 0)
    inputs, sizes = completed(inputs, sizes)
    gradients = run(_model.vjp, weights, [*inputs, *cotangents], sizes)
    return {a.name.removeprefix("grad."): g for a, g in zip(_model.vjp.outputs, gradients)}


def initial(seed):
    """Weights as they are derived to start."""
    rng = numpy.random.default_rng(seed)
    weights = {}
    for a in _model.weights:
        shape, (kind, scale) = a.shape([]), a.about.removeprefix("starts as ").split(" ")
        start = rng.standard_normal(shape) if kind == "normal" else numpy.ones(shape)
        weights[a.name] = (float(scale) * start).astype(_model.real)
    return weights
