"""The package of a model on ONNX Runtime. `python_package.py` installs it and calls `check`."""

import os

import numpy as np
import onnx
import onnxruntime

from python_package import TABLES


def session(package, path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    package.register(options)
    return onnxruntime.InferenceSession(path, options)


def check(weights, images, logits, folder):
    """`weights`, `images` and `logits` are those of digits, from torch."""
    import digits.onnx
    import messages.numpy
    import messages.onnx

    path = os.path.join(folder, "digits.onnx")
    digits.onnx.save(path, weights)
    onnx.checker.check_model(path)
    (found,) = session(digits.onnx, path).run(None, {"x": images.astype(np.float32)})
    error = np.abs(found - logits).max() / np.abs(logits).max()
    assert error < 5e-6 * np.sqrt(25 + 1600 + 8), error
    print(f"digits.onnx: logits against torch, relative error {error:.1e}")

    # shapes that no file states: an operator of ONNX behind the model is told its rank and its last axis
    graph = onnx.load(path)
    del graph.graph.output[:]
    graph.graph.node.append(onnx.helper.make_node("Identity", ["y"], ["z"]))
    name = graph.graph.node[0].output[0]
    graph.graph.node[1].input[0] = name
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info("z"))
    behind = os.path.join(folder, "behind.onnx")
    onnx.save(graph, behind)
    (z,) = session(digits.onnx, behind).get_outputs()
    assert z.shape[1:] == [10] and z.type == "tensor(float)", (z.shape, z.type)
    print("digits.onnx: shapes are inferred")

    rng = np.random.default_rng(1)
    weights, x, e = messages.numpy.initial(2), rng.normal(size=(5, 3)), rng.normal(size=(7, 2))
    path = os.path.join(folder, "messages.onnx")
    messages.onnx.save(path)
    model = session(messages.onnx, path)
    tables = {f"G.{name}": np.array(table) for name, table in TABLES.items()}
    given = {"x": x, "e": e, **tables, **weights, "samples": np.array([2])}
    (y,) = model.run(None, given)
    assert np.array_equal(y, messages.numpy.call(weights, x, e, **{name: np.array(table) for name, table in TABLES.items()}))
    wrong = {
        "outside 0..5": {**given, "G.senders": tables["G.senders"] + 4},
        "and needs 6": {**given, "e": e[:6]},
        "`samples` is -2": {**given, "samples": np.array([-2])},
        "tensor(double)": {**given, "x": x.astype(np.float32)},
    }
    for words, arguments in wrong.items():
        try:
            model.run(None, arguments)
        except Exception as why:
            assert words in str(why), f"{words}: {why}"
        else:
            raise AssertionError(f"{words}: no error")
    print("messages.onnx: tables and sizes as inputs; wrong ones are refused in words")
