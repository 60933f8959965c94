"""Products of matrices and convolutions."""

import numpy as np

from library import Library
from workloads.peers import onnx_session, torch_


def sgemm(folder):
    """[1024, 1024] times [1024, 1024]."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((1024, 1024)).astype(np.float32) for _ in range(2))

    def gdlc():
        inputs = {"x": x, "Rows.index": np.zeros(1024, np.int32)}
        return Library(folder, "sgemm").bound(inputs, {"linear1.weight": w}, (1024, 1024))

    def torch_side():
        torch = torch_()
        a, b = torch.tensor(x), torch.tensor(w.T.copy())
        return lambda: (a @ b).numpy()

    def ort():
        from onnx import helper

        return onnx_session({"x": x}, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w.T.copy()}, "y")

    return 2 * 1024**3, {"gdlc": gdlc, "torch": torch_side, "numpy": lambda: lambda: x @ w.T, "onnxruntime": ort}


def conv(folder):
    """3x3, 64 -> 64 channels, batch 8, 56 x 56, bias and relu. Results compared in the layout [batch, h, w, channel]."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 56, 56, 64)).astype(np.float32)
    w = (rng.standard_normal((64, 64, 9)) / 24).astype(np.float32)
    bias = rng.standard_normal(64).astype(np.float32)
    planes, filters = np.ascontiguousarray(x.transpose(0, 3, 1, 2)), w.reshape(64, 64, 3, 3)

    def gdlc():
        return Library(folder, "conv").bound({"x": x}, {"linear1.weight": w, "linear1.bias": bias}, x.shape)

    def torch_side(layout):
        torch = torch_()
        a, b, c = (torch.tensor(t) for t in (planes, filters, bias))
        if layout == "nhwc":
            a, b = (t.to(memory_format=torch.channels_last) for t in (a, b))
        f = torch.nn.functional

        def run():
            with torch.no_grad():
                return f.relu(f.conv2d(a, b, c, padding=1)).permute(0, 2, 3, 1).numpy()

        return run

    def ort():
        from onnx import helper

        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["z"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["z"], ["y"]),
        ]
        run = onnx_session({"x": planes}, nodes, {"w": filters, "b": bias}, "y")
        return lambda: run().transpose(0, 2, 3, 1)

    sides = {"gdlc": gdlc, "torch nchw": lambda: torch_side("nchw"), "torch nhwc": lambda: torch_side("nhwc"), "onnxruntime": ort}
    return 2 * 8 * 56 * 56 * 64 * 64 * 9, sides


def p4m(folder):
    """The group convolution under p4m, 3x3, 16 -> 16 regular fibres (128 channels), batch 8, 56 x 56.

    The peer is the plain convolution of the expanded filters, 128 -> 128 channels, which is what escnn runs after its own expansion:
    the same products. Times are compared, not numbers (those are compared in the tests).
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 56, 56, 128)).astype(np.float32)
    filters = (rng.standard_normal((128, 128, 3, 3)) / 34).astype(np.float32)
    planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2))

    def torch_side(layout):
        torch = torch_()
        a, b = torch.tensor(planes), torch.tensor(filters)
        if layout == "nhwc":
            a, b = (t.to(memory_format=torch.channels_last) for t in (a, b))

        def run():
            with torch.no_grad():
                return torch.nn.functional.conv2d(a, b, padding=1)

        return run

    def ort():
        from onnx import helper

        return onnx_session({"x": planes}, [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], {"w": filters}, "y")

    gdlc = lambda: Library(folder, "p4m").bound({"x": x}, None, x.shape)
    return None, {"gdlc": gdlc, "torch nchw": lambda: torch_side("nchw"), "torch nhwc": lambda: torch_side("nhwc"), "onnxruntime": ort}


def deepsets(folder):
    """One DeepSets layer with relu on 32 sets of 512 elements, 128 -> 128 channels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32 * 512, 128)).astype(np.float32)
    index = np.repeat(np.arange(32, dtype=np.int32), 512)
    w = (rng.standard_normal((128, 128, 2)) / 16).astype(np.float32)
    bias = rng.standard_normal(128).astype(np.float32)

    def gdlc():
        weights = {"linear1.weight": w, "linear1.bias": bias}
        return Library(folder, "deepsets").bound({"x": x, "Elements.index": index}, weights, x.shape)

    def torch_side(own, pooled):
        torch = torch_()
        sets, b = torch.tensor(x).reshape(32, 512, 128), torch.tensor(bias)
        of_own, of_pooled = (torch.tensor(np.ascontiguousarray(w[:, :, k].T)) for k in (own, pooled))

        def run():
            with torch.no_grad():
                return torch.relu(sets @ of_own + (sets.mean(1) @ of_pooled + b)[:, None]).reshape(-1, 128).numpy()

        return run

    return 2 * 32 * 512 * 128 * 128, {"gdlc": gdlc, "torch": lambda: torch_side(0, 1)}


def irreps(folder):
    """The equivariant linear map on 10000 rows of 128 x (0e + 1o + 2e). Times are compared, not numbers (those are in the tests)."""
    x = np.random.default_rng(0).standard_normal((10000, 1152)).astype(np.float32)

    def e3nn():
        torch = torch_()
        from e3nn import o3

        both, rows = o3.Irreps("128x0e+128x1o+128x2e"), torch.tensor(x)
        linear = o3.Linear(both, both, biases=True)

        def run():
            with torch.no_grad():
                return linear(rows)

        return run

    def gdlc():
        inputs = {"x": x, "r": np.zeros((10000, 3), np.float32)}
        return Library(folder, "irreps").bound(inputs, None, x.shape)

    return None, {"gdlc": gdlc, "e3nn": e3nn}
