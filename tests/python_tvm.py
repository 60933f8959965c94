"""A library as a module of TVM-FFI. `python_package.py` builds it and calls `check`."""

import os

import numpy as np
import tvm_ffi

from python_package import TABLES, refused


def check():
    import messages
    import messages.numpy

    library = os.path.join(os.path.dirname(messages.__file__), "libmessages.so")
    module = tvm_ffi.load_module(library)
    rng = np.random.default_rng(1)
    weights, x, e = messages.numpy.initial(2), rng.normal(size=(5, 3)), rng.normal(size=(7, 2))
    tables = {name: np.array(table) for name, table in TABLES.items()}
    given = {"x": x, "e": e, **{f"G.{name}": table for name, table in tables.items()}}
    inputs = [given[a.name] for a in messages.MODEL.inputs]
    values = [weights[a.name] for a in messages.MODEL.weights]
    call = lambda function, *arrays: function(*map(tvm_ffi.from_dlpack, arrays))
    y = np.full((2, 2), np.nan)
    call(module["messages"], *inputs, *values, y)
    assert np.array_equal(y, messages.numpy.call(weights, x, e, **tables))
    cotangent = rng.normal(size=(2, 2))
    expected = messages.numpy.vjp(weights, [cotangent], x, e, **tables)
    vjp = messages.MODEL.vjp
    gradients = [np.full(expected[a.name.removeprefix("grad.")].shape, np.nan) for a in vjp.outputs]
    call(module["messages_vjp"], *inputs, cotangent, *values, *gradients)
    for a, found in zip(vjp.outputs, gradients):
        assert np.array_equal(found, expected[a.name.removeprefix("grad.")]), a.name
    print(f"tvm_ffi {tvm_ffi.__version__}: outputs and derivatives are those of NumPy, to the bit")
    at = {a.name: k for k, a in enumerate(messages.MODEL.inputs)}
    other = lambda name, array: [array if k == at[name] else i for k, i in enumerate(inputs)]
    function = module["messages"]
    refused("tvm_ffi", [
        (f"has {len(inputs) + len(values) + 1} inputs, weights and outputs, 2 were given", lambda: call(function, x, y)),
        ("`x` is of TVM-FFI's type 1, and needs to be a tensor", lambda: function(1, *map(tvm_ffi.from_dlpack, [*inputs[1:], *values, y]))),
        ("`x` is float32, and needs float64", lambda: call(function, *other("x", x.astype("float32")), *values, y)),
        ("row-major", lambda: call(function, *other("x", np.asfortranarray(x)), *values, y)),
        ("`G.senders`: element 0 is 5, outside 0..5", lambda: call(function, *other("G.senders", tables["senders"] + 4), *values, y)),
        ("output `y`", lambda: call(function, *inputs, *values, np.zeros((2, 3)))),
    ])  # fmt: skip
