"""The model as a custom operator of ONNX Runtime, which calls the library itself.

    save("model.onnx", weights)                     # needs onnx
    options = onnxruntime.SessionOptions()
    register(options)
    onnxruntime.InferenceSession("model.onnx", options).run(None, {"x": x})
"""
import os

from . import MODEL as _model
from . import NAME as _name

LIBRARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"lib{_name}.so")


def register(options):
    """Makes the operator known to sessions with these options."""
    options.register_custom_ops_library(LIBRARY)


def save(path, weights=None):
    """Writes a graph of the one operator. Inputs have the names of the model's, tables of domains included, and so have sizes that follow from no
    input (`samples`: int64, one element); weights (a dict of arrays) are kept in the file, or else are inputs too."""
    import numpy
    import onnx
    from onnx import TensorProto, helper

    real = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[_model.real]

    def described(argument):
        plain = lambda scale, offset, divisor: scale and (scale, offset, divisor) == (1, 0, 1)
        dims = [
            _model.sizes[var] if plain(scale, offset, divisor) else None if scale else offset // divisor
            for var, scale, offset, divisor in argument.dims
        ]
        return helper.make_tensor_value_info(argument.name, real if argument.real else TensorProto.INT64, dims)

    inputs = [described(a) for a in (_model.inputs if weights else _model.inputs + _model.weights)]
    sizes = [name for name, found, _ in _model._found if found is None]
    inputs += [helper.make_tensor_value_info(name, TensorProto.INT64, [1]) for name in sizes]
    stored = [
        onnx.numpy_helper.from_array(numpy.ascontiguousarray(weights[a.name], dtype=_model.real), a.name)
        for a in (_model.weights if weights else [])
    ]
    names = [a.name for a in _model.inputs + _model.weights] + sizes
    node = helper.make_node(_model.name, names, [a.name for a in _model.outputs], domain=f"gdl.{_model.name}")
    graph = helper.make_graph([node], _name, inputs, [described(a) for a in _model.outputs], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(f"gdl.{_model.name}", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
