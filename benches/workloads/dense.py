"""Products of matrices and convolutions."""

import numpy as np

from library import Library
from workloads.peers import of_jax, of_torch, onnx_session, torch_


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

    sides = {"gdlc": gdlc, "torch": torch_side, "numpy": lambda: lambda: x @ w.T, "onnxruntime": ort}
    return 2 * 1024**3, sides | {"jax": lambda: of_jax(lambda a, b: a @ b, x, w.T)}


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
        return of_torch(lambda: f.relu(f.conv2d(a, b, c, padding=1)).permute(0, 2, 3, 1).numpy())

    def compiled():
        torch = torch_()
        layer = torch.nn.Conv2d(64, 64, 3, padding=1)
        layer.weight.data, layer.bias.data = torch.tensor(filters), torch.tensor(bias)
        module = torch.nn.Sequential(layer, torch.nn.ReLU()).eval().to(memory_format=torch.channels_last)
        run = of_torch(module, torch.tensor(planes).to(memory_format=torch.channels_last), compiled=True)
        return lambda: run().permute(0, 2, 3, 1).numpy()

    def ort():
        from onnx import helper

        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["z"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["z"], ["y"]),
        ]
        run = onnx_session({"x": planes}, nodes, {"w": filters, "b": bias}, "y")
        return lambda: run().transpose(0, 2, 3, 1)

    sides = {"gdlc": gdlc, "torch nchw": lambda: torch_side("nchw"), "torch nhwc": lambda: torch_side("nhwc")}
    sides |= {"torch compiled": compiled, "onnxruntime": ort}
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

    own, pooled = (np.ascontiguousarray(w[:, :, k].T) for k in range(2))

    def torch_side(compiled):
        torch = torch_()
        layer = lambda sets, own, pooled, b: torch.relu(sets @ own + (sets.mean(1) @ pooled + b)[:, None])
        run = of_torch(layer, *(torch.tensor(t) for t in (x.reshape(32, 512, 128), own, pooled, bias)), compiled=compiled)
        return lambda: run().reshape(-1, 128).numpy()

    def jax():
        import jax

        layer = lambda sets, own, pooled, b: jax.nn.relu(sets @ own + (sets.mean(1) @ pooled + b)[:, None]).reshape(-1, 128)
        return of_jax(layer, x.reshape(32, 512, 128), own, pooled, bias)

    sides = {"gdlc": gdlc, "torch": lambda: torch_side(False), "torch compiled": lambda: torch_side(True), "jax": jax}
    return 2 * 32 * 512 * 128 * 128, sides


def attention(folder):
    """Self-attention of 4 sets of 512 tokens, 256 channels, 8 heads."""
    rng = np.random.default_rng(0)
    sets, tokens, channels, heads = 4, 512, 256, 8
    wide = channels // heads
    x = rng.standard_normal((sets * tokens, channels)).astype(np.float32)
    weights = (rng.standard_normal((4, channels, channels)) / 16).astype(np.float32)
    biases = rng.standard_normal((4, channels)).astype(np.float32)

    def gdlc():
        named = {"linear1.weight": weights[3].reshape(channels, heads, wide), "linear1.bias": biases[3]}
        for name, w, b in zip("qkv", weights, biases):  # [head, from, of the head]
            named[f"{name}.linear.weight"] = w.reshape(heads, wide, channels).transpose(0, 2, 1)
            named[f"{name}.linear.bias"] = b.reshape(heads, wide)
        inputs = {"x": x, "Tokens.index": np.repeat(np.arange(sets, dtype=np.int32), tokens)}
        return Library(folder, "attention").bound(inputs, named, x.shape)

    inside = (weights[:3].reshape(-1, channels), biases[:3].reshape(-1), weights[3], biases[3])

    def torch_side(compiled):
        torch = torch_()
        f = torch.nn.functional

        def block(x, w_in, b_in, w_out, b_out):
            q, k, v = f.linear(x, w_in, b_in).view(sets, tokens, 3, heads, wide).permute(2, 0, 3, 1, 4)
            y = f.scaled_dot_product_attention(q, k, v).transpose(1, 2)
            return f.linear(y.reshape(sets * tokens, channels), w_out, b_out)

        run = of_torch(block, *(torch.tensor(t) for t in (x.reshape(sets, tokens, channels), *inside)), compiled=compiled)
        return lambda: run().numpy()

    def module():
        torch = torch_()
        layer = torch.nn.MultiheadAttention(channels, heads, batch_first=True).eval()
        names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
        layer.load_state_dict(dict(zip(names, map(torch.tensor, inside))))
        run = of_torch(lambda x: layer(x, x, x, need_weights=False)[0], torch.tensor(x).reshape(sets, tokens, channels))
        return lambda: run().reshape(x.shape).numpy()

    def jax():
        import jax

        def block(x, w_in, b_in, w_out, b_out):
            projected = (x @ w_in.T + b_in).reshape(sets, tokens, 3, heads, wide)
            q, k, v = (projected[:, :, part] for part in range(3))
            return jax.nn.dot_product_attention(q, k, v).reshape(-1, channels) @ w_out.T + b_out

        return of_jax(block, x.reshape(sets, tokens, channels), *inside)

    sides = {"gdlc": gdlc, "torch": lambda: torch_side(False), "torch compiled": lambda: torch_side(True)}
    return 8 * len(x) * channels**2 + 4 * len(x) * tokens * channels, sides | {"torch module": module, "jax": jax}


def irreps(folder):
    """The equivariant linear map on 10000 rows of 128 x (0e + 1o + 2e).

    By hand it is a product of matrices a degree, the components outside of the channels, which is another layout than gdlc's and e3nn's.
    Times are compared, not numbers (those are in the tests).
    """
    rows, channels, names = 10000, 128, "128x0e+128x1o+128x2e"
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 9 * channels)).astype(np.float32)
    weights = [(rng.standard_normal((channels, channels)) / 11).astype(np.float32) for _ in range(3)]

    def e3nn(compiled):
        torch = torch_()
        from e3nn import o3

        return of_torch(o3.Linear(o3.Irreps(names), o3.Irreps(names), biases=True), torch.tensor(x), compiled=compiled)

    def cuequivariance(layout):
        torch = torch_()
        import cuequivariance
        from cuequivariance_torch import Linear

        both = cuequivariance.Irreps("O3", names)
        return of_torch(Linear(both, both, layout=getattr(cuequivariance, layout), method="naive"), torch.tensor(x))

    def by_hand(join, x, *weights):
        parts, at = [], 0
        for degree, w in enumerate(weights):
            width = (2 * degree + 1) * channels
            parts.append((x[:, at : at + width].reshape(-1, channels) @ w).reshape(-1, width))
            at += width
        return join(parts, 1)

    def torch_side(compiled):
        torch = torch_()
        return of_torch(lambda *t: by_hand(torch.cat, *t), *map(torch.tensor, (x, *weights)), compiled=compiled)

    def jax():
        import jax.numpy

        return of_jax(lambda *t: by_hand(jax.numpy.concatenate, *t), x, *weights)

    def gdlc():
        inputs = {"x": x, "r": np.zeros((rows, 3), np.float32)}
        return Library(folder, "irreps").bound(inputs, None, x.shape)

    sides = {"gdlc": gdlc, "e3nn": lambda: e3nn(False), "e3nn compiled": lambda: e3nn(True)}
    sides |= {f"cuequivariance {layout}": lambda layout=layout: cuequivariance(layout) for layout in ("mul_ir", "ir_mul")}
    return None, sides | {"torch by hand": lambda: torch_side(False), "torch by hand, compiled": lambda: torch_side(True), "jax by hand": jax}
