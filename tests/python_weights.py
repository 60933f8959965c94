"""Weights of torch, e3nn and PyG layers in a model of the same map: the outputs are those of the library itself, in f64.

`python_package.py` calls `check` with its `install` where torch is; a library that is not there is left out, with a word.
"""

import importlib
import os

import numpy as np
import torch

from python_package import present, refused

PROGRAMS = {
    "convolution": """domain P = grid(n, k) under shift
model Convolution(x: P -> 3): P -> 4 = x |> linear 5 over 3x5 |> relu |> linear 4
""",
    "irreps": """domain Atoms = points(n, m) in R3 under E(3)
model Irreps(x: Atoms -> 4x0e + 3x1o + 2x1e): Atoms -> 5x0e + 2x1o + 3x1e = x |> linear 5x0e + 2x1o + 3x1e
""",
    "product": """domain Atoms = points(n, m) in R3 under E(3)
model Product(a: Atoms -> 4x0e + 3x1o + 2x2e, b: Atoms -> 0e + 1o + 2e): Atoms -> 4x0e + 3x1o + 2x2e + 2x1e =
  bilinear 4x0e + 3x1o + 2x2e + 2x1e (a, b)
""",
    "channels": """domain Atoms = points(n, m) in R3 under E(3)
model Channels(a: Atoms -> 3 irreps(0..2), b: Atoms -> 3 irreps(0..2)): Atoms -> 3 irreps(0..2) = depthwise bilinear irreps(0..2) (a, b)
""",
    "messages_depthwise": """domain Atoms = points(n ~ 10, m ~ 20) in R3 under E(3)
model MessagesDepthwise(x: Atoms -> 3 irreps(0..2), r: Atoms -> position): Atoms -> 3 irreps(0..2) =
  x |> depthwise irreps(0..2) over 5.0 at r by mlp[16, 12]
""",
    "messages_full": """domain Atoms = points(n ~ 10, m ~ 20) in R3 under E(3)
model MessagesFull(x: Atoms -> 3x0e + 2x1o, r: Atoms -> position): Atoms -> 4x0e + 5x1o + 2x1e =
  x |> linear 4x0e + 5x1o + 2x1e over 5.0 at r by mlp[16]
""",
    "groups": """domain P = grid(n, n) under p4m
domain Q = grid(n, n) under p4
model Mirrors(x: P -> 3): P -> 2 = x |> linear 4 regular over 5x5 |> relu |> linear 2 regular over 3x3 |> relu |> linear 2 over 3x3
model Turns(x: Q -> 3): Q -> 2 regular = x |> linear 4 regular over 3x3 |> relu |> linear 2 regular over 3x3
model Plain(x: P -> 3): P -> 2 = x |> linear 2 over 3x3
""",
    "nodes": """use graph
domain G = graph(n, m)
model Gcn(x: G -> 3): G -> 2 = gcn[2](x)
model Gat(x: G -> 3): G -> 2 = gat[2](x)
model Gin(x: G -> 3): G -> 2 = gin[2](x)
model Sage(x: G -> 3): G -> 2 = sage[2](x)
""",
    "elements": """use set
domain S = set(n)
model Attention(x: S -> 4): S -> 4 = attention[4](x)
model Perceptron(z: S -> class(5)): S -> 2 = z |> linear 3 |> mlp[4, 2]
""",
}


def close(found, expected, what, tolerance=1e-10):
    error = (torch.as_tensor(found) - expected).abs().max() / expected.abs().max()
    assert error < tolerance, f"{what}: {error:.1e}"
    print(f"weights of {what}: the same outputs, relative error {error:.1e}")


def of_torch(package):
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 5, (3, 5), padding="same"), torch.nn.ReLU(), torch.nn.Conv2d(5, 4, 1)).double()
    weights = {**package.weights.from_torch("linear1", layers[0]), **package.weights.from_torch("linear2", layers[2])}
    pointwise = torch.nn.Linear(5, 4).double()
    pointwise.weight.data, pointwise.bias.data = layers[2].weight.data[:, :, 0, 0], layers[2].bias.data
    weights.update(package.weights.from_torch("linear2", pointwise))
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    y = package.numpy.call(weights, x.permute(0, 2, 3, 1).numpy())
    close(y, layers(x).detach().permute(0, 2, 3, 1), "torch.nn.Conv2d and Linear")
    for module in [torch.nn.Conv2d(3, 5, 3, stride=2), torch.nn.Conv2d(3, 5, 3), torch.nn.Conv2d(3, 3, 3, groups=3, padding=1)]:
        try:
            package.weights.from_torch("linear1", module)
        except ValueError as why:
            assert "no layer here is that map" in str(why)
        else:
            raise AssertionError(f"{module} was taken")


def of_e3nn():
    # e3nn's couplings are of the type that is the default when a module is made
    torch.set_default_dtype(torch.float64)
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals([slice])  # which files of e3nn 0.4 hold
    import e3nn
    from e3nn import o3

    package = loaded("irreps")
    # blocks of a kind apart from each other are joined; the input is given in the order of the joined ones
    layer = o3.Linear("3x0e + 3x1o + 2x1e + 1x0e", "5x0e + 2x1o + 3x1e", biases=True).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(7, 19, dtype=torch.float64)
    weights = package.weights.from_e3nn("linear1", layer)
    scalars, rest, last = x[:, :3], x[:, 3:18], x[:, 18:]
    y = package.numpy.call(weights, torch.cat([scalars, last, rest], 1).numpy(), m=0)
    close(y, layer(x).detach(), f"o3.Linear of e3nn {e3nn.__version__}")

    package = loaded("product")
    ins = [o3.Irreps("4x0e + 3x1o + 2x2e"), o3.Irreps("0e + 1o + 2e")]
    layer = o3.FullyConnectedTensorProduct(*ins, "4x0e + 3x1o + 2x2e + 2x1e").double()
    a, b = (torch.randn(7, irreps.dim, dtype=torch.float64) for irreps in ins)
    y = package.numpy.call(package.weights.from_e3nn("bilinear1", layer), a.numpy(), b.numpy(), m=0)
    close(y, layer(a, b).detach(), f"o3.FullyConnectedTensorProduct of e3nn {e3nn.__version__}")

    package = loaded("channels")
    irreps = o3.Irreps("3x0e + 3x1o + 3x2e")
    paths = [(a, b, o, "uuu", True) for o in range(3) for a in range(3) for b in range(3) if abs(a - b) <= o <= a + b and (a + b + o) % 2 == 0]
    layer = o3.TensorProduct(irreps, irreps, irreps, paths[:-1], internal_weights=True).double()
    a, b = (torch.randn(7, irreps.dim, dtype=torch.float64) for _ in range(2))
    y = package.numpy.call(package.weights.from_e3nn("bilinear1", layer), of_channels(a, irreps).numpy(), of_channels(b, irreps).numpy(), m=0)
    close(y, of_channels(layer(a, b).detach(), irreps), f"o3.TensorProduct of channels of e3nn {e3nn.__version__}")
    irreps = o3.Irreps("3x0e + 3x1o + 3x2e")
    natural = lambda i, f, o: (i + f + o) % 2 == 0
    steps = [(i, f, o, "uvu", True) for o in range(3) for f in range(5) for i in range(3) if abs(i - f) <= o <= i + f and natural(i, f, o)]
    of_messages("messages_depthwise", "depthwise1", irreps, irreps, steps, [16, 12])
    ins, outs = o3.Irreps("3x0e + 2x1o"), o3.Irreps("4x0e + 5x1o + 2x1e")
    degrees = [(ir.l, ir.p) for _, ir in outs], [(ir.l, ir.p) for _, ir in ins]
    steps = [
        (i, f, o, "uvw", True) for o, (lo, po) in enumerate(degrees[0]) for i, (li, pi) in enumerate(degrees[1])
        for f in range(abs(lo - li), lo + li + 1) if pi * (-1) ** f == po
    ]  # fmt: skip
    of_messages("messages_full", "linear1", ins, outs, steps, [16])
    torch.set_default_dtype(torch.float32)


def of_channels(x, irreps):
    """Rows [.., irrep, copy, component] of e3nn as rows [.., copy, irrep, component], as `3 irreps(0..2)` has them; others stay."""
    if len({mul for mul, _ in irreps}) > 1:
        return x
    return torch.cat([x[:, part].reshape(len(x), mul, -1) for part, (mul, _) in zip(irreps.slices(), irreps)], -1).flatten(1)


def of_messages(name, layer, ins, outs, steps, widths):
    """Messages along edges whose weights a network of the distance makes."""
    import e3nn
    from e3nn import math, nn, o3

    package = loaded(name)
    filters = o3.Irreps([(1, (l, (-1) ** l)) for l in range(5)])
    product = o3.TensorProduct(ins, filters, outs, steps, shared_weights=False, internal_weights=False).double()
    radial = nn.FullyConnectedNet([8, *widths, product.weight_numel], torch.nn.functional.silu).double()
    rng = np.random.default_rng(0)
    r = torch.tensor(rng.uniform(-1.4, 1.4, (6, 3)))
    receivers, senders = np.nonzero(~np.eye(6, dtype=bool))
    steps = r[senders] - r[receivers]
    length = steps.norm(dim=1)
    u = length / 5
    bessel = math.soft_one_hot_linspace(length, 0.0, 5.0, 8, "bessel", False) * (1 - 28 * u**6 + 48 * u**7 - 21 * u**8)[:, None]
    x = torch.randn(6, ins.dim, dtype=torch.float64)
    messages = product(x[senders], o3.spherical_harmonics(filters, steps, True, "component"), radial(bessel))
    expected = torch.zeros(6, outs.dim, dtype=torch.float64).index_add_(0, torch.tensor(receivers), messages)
    weights = package.weights.from_e3nn(layer, product, radial, neighbours=2.0)
    y = package.numpy.call(weights, of_channels(x, ins).numpy(), r.numpy(), senders=senders, receivers=receivers)
    close(y, of_channels(expected.detach(), outs), f"{layer}: o3.TensorProduct with nn.FullyConnectedNet of e3nn {e3nn.__version__}")


def of_pyg():
    from torch_geometric import nn

    pairs = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]
    both = sorted((receiver, sender) for a, b in pairs for receiver, sender in [(a, b), (b, a)])
    receivers, senders = torch.tensor(both).T.contiguous()
    x = torch.randn(4, 3, dtype=torch.float64)
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.SiLU(), torch.nn.Linear(2, 2))
    layers = {
        "gcn": nn.GCNConv(3, 2, bias=False, add_self_loops=False), "gat": nn.GATConv(3, 2, bias=False, add_self_loops=False),
        "gin": nn.GINConv(network), "sage": nn.SAGEConv(3, 2),
    }  # fmt: skip
    for name, layer in layers.items():
        package, layer = loaded(name), layer.double()
        weights = package.weights.from_pyg(f"{name}1", layer)
        y = package.numpy.call(weights, x.numpy(), senders=senders.numpy(), receivers=receivers.numpy())
        close(y, layer(x, torch.stack([senders, receivers])).detach(), f"torch_geometric.nn.{type(layer).__name__}")
    refused("weights of PyG", [
        ("2 heads", lambda: loaded("gat").weights.from_pyg("gat1", nn.GATConv(3, 2, heads=2, bias=False, add_self_loops=False))),
        ("self-loops", lambda: loaded("gcn").weights.from_pyg("gcn1", nn.GCNConv(3, 2, bias=False))),
        ("no layer `gcn2`: its weights are gcn1.z", lambda: loaded("gcn").weights.from_pyg("gcn2", layers["gcn"])),
        ("[2, 4] numbers for `gcn1.z.linear.weight`, which is [2, 3]", lambda: loaded("gcn").weights.from_pyg("gcn1", nn.GCNConv(4, 2, bias=False, add_self_loops=False))),
        ("ReLU where `mlp` has SiLU", lambda: loaded("gin").weights.from_pyg("gin1", nn.GINConv(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())))),
        ("max of the neighbours", lambda: loaded("sage").weights.from_pyg("sage1", nn.SAGEConv(3, 2, aggr="max"))),
        ("no layer of the library", lambda: loaded("sage").weights.from_pyg("sage1", nn.ChebConv(3, 2, 2))),
    ])  # fmt: skip


def of_escnn():
    """To the precision of f32, in which escnn has its bases of filters."""
    from escnn import gspaces, nn

    for name, group in [("mirrors", gspaces.flipRot2dOnR2(4)), ("turns", gspaces.rot2dOnR2(4)), ("plain", gspaces.flipRot2dOnR2(4))]:
        package = loaded(name)
        fibres = lambda n, regular: nn.FieldType(group, n * [group.regular_repr if regular else group.trivial_repr])
        types = {
            "mirrors": [fibres(3, False), fibres(4, True), fibres(2, True), fibres(2, False)],
            "turns": [fibres(3, False), fibres(4, True), fibres(2, True)], "plain": [fibres(3, False), fibres(2, False)],
        }[name]  # fmt: skip
        widths = [5, 3, 3] if name == "mirrors" else [3, 3]
        layers = [nn.R2Conv(a, b, k, padding=k // 2).double() for a, b, k in zip(types, types[1:], widths)]
        weights, x = {}, torch.randn(2, 3, 7, 7, dtype=torch.float64)
        y = nn.GeometricTensor(x, types[0])
        for k, layer in enumerate(layers):
            torch.nn.init.normal_(layer.bias)
            layer.eval()
            weights.update(package.weights.from_escnn(f"linear{k + 1}", layer))
            y = layer(nn.ReLU(y.type)(y) if k else y)
        expected = y.tensor.detach().permute(0, 2, 3, 1)
        if name == "turns":
            order = package.weights.escnn_order(group)
            expected = expected.reshape(2, 7, 7, 2, -1)[..., order].reshape(2, 7, 7, -1)
        close(package.numpy.call(weights, x.permute(0, 2, 3, 1).numpy()), expected, f"escnn's R2Conv, {name}", 5e-6)


class Grouped:
    """What a layer of GrouPy computes, by its equations: Cohen and Welling 2016, sections 4.2 and 7. With weights w [out, in, h, k, k] and its elements
    M^m R^r in the order 4 m + r, R a quarter turn and M the mirror of the rows, the filter of an output's component g is w at g^-1 h, its cells moved by
    g: by `rot90` and `flip` of whole pictures here, where the compiler has tables of cells. GrouPy's own tables of indices give these filters."""

    def __init__(self, n_out, n_in, order, over, k):
        self.weight = torch.randn(n_out, n_in, order if over else 1, k, k, dtype=torch.float64)
        self.bias, self.order, self.over = torch.randn(n_out, dtype=torch.float64), order, over
        self.padding, self.stride = k // 2, 1

    def moved(self, w, g):
        """The filter w [.., h, k, k] moved by an element: R as often as it says, then M."""
        at = lambda w, elements: torch.stack([w[..., h, :, :] for h in elements[: self.order]], -3) if self.over else w
        for _ in range(g % 4):
            # (R w)(h) = w(R^-1 h), and R^-1 M R^r = M R^(r+1)
            w = at(torch.rot90(w, 1, (-2, -1)), [3, 0, 1, 2, 5, 6, 7, 4])
        return at(w.flip(-2), [4, 5, 6, 7, 0, 1, 2, 3]) if g >= 4 else w

    def __call__(self, x):
        filters = torch.stack([self.moved(self.weight, g) for g in range(self.order)], 1)  # [out, g, in, h, k, k]
        filters = filters.flatten(0, 1).flatten(1, 2)
        return torch.nn.functional.conv2d(x, filters, self.bias.repeat_interleave(self.order), padding=self.padding)


def of_groupy():
    """GrouPy is on no index of packages: its layers are those of `Grouped`."""
    package = loaded("turns")
    layers = [Grouped(4, 3, 4, False, 3), Grouped(2, 4, 4, True, 3)]
    weights = {**package.weights.from_groupy("linear1", layers[0]), **package.weights.from_groupy("linear2", layers[1])}
    x = torch.randn(2, 3, 7, 7, dtype=torch.float64)
    expected = layers[1](layers[0](x).relu()).permute(0, 2, 3, 1)
    close(package.numpy.call(weights, x.permute(0, 2, 3, 1).numpy()), expected, "GrouPy's P4ConvZ2 and P4ConvP4, by their equations")
    package = loaded("mirrors")
    layers = [Grouped(4, 3, 8, False, 5), Grouped(2, 4, 8, True, 3)]
    weights = {**package.weights.from_groupy("linear1", layers[0]), **package.weights.from_groupy("linear2", layers[1])}
    last = package.numpy.initial(0)
    weights.update({name: w for name, w in last.items() if name.startswith("linear3")})
    # the last layer, to scalars: its filters for a component are those for the first, moved
    hidden = layers[1](layers[0](x).relu()).relu()
    w = torch.tensor(last["linear3.weight"]).reshape(2, 2, 1, 3, 3)
    group = Grouped(2, 2, 8, False, 3)
    filters = torch.stack([group.moved(w[:, :, 0], g) for g in range(8)], 2).flatten(1, 2)
    expected = torch.nn.functional.conv2d(hidden, filters, torch.tensor(last["linear3.bias"]), padding=1).permute(0, 2, 3, 1)
    close(package.numpy.call(weights, x.permute(0, 2, 3, 1).numpy()), expected, "GrouPy's P4MConvZ2 and P4MConvP4M, by their equations")


def of_sets():
    package = loaded("attention")
    layer = torch.nn.MultiheadAttention(4, 1, batch_first=True).double().eval()
    torch.nn.init.normal_(layer.out_proj.bias)
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    weights = package.weights.from_torch("attention1", layer)
    y = package.numpy.call(weights, x.reshape(10, 4).numpy(), index=np.repeat([0, 1], 5))
    close(y, layer(x, x, x)[0].detach().reshape(10, 4), "torch.nn.MultiheadAttention")
    package = loaded("perceptron")
    layers = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.SiLU(), torch.nn.Linear(4, 2))).double()
    names = sorted({a.name.rsplit(".", 2)[0] for a in package.MODEL.weights if ".2." in a.name})
    weights = {**package.weights.from_torch("linear1", layers[0]), **package.weights.from_torch(names[0], layers[1])}
    z = np.array([0, 3, 4, 1, 1])
    close(package.numpy.call(weights, z), layers(torch.tensor(z)).detach(), "torch.nn.Embedding and a perceptron")
    refused("weights of torch", [
        ("2 heads", lambda: loaded("attention").weights.from_torch("attention1", torch.nn.MultiheadAttention(4, 2))),
    ])  # fmt: skip


def loaded(name):
    """The package of a model, its weights and its NumPy part."""
    package = importlib.import_module(name)
    for part in ["numpy", "weights"]:
        importlib.import_module(f"{name}.{part}")
    return package


def check(install, folder):
    torch.manual_seed(0)
    for name, text in PROGRAMS.items():
        program = os.path.join(folder, f"{name}.gdl")
        with open(program, "w") as file:
            file.write(text)
        install(program, os.path.join(folder, name), "--dtype", "f64")
    of_torch(loaded("convolution"))
    of_sets()
    of_groupy()
    for host, test in [("e3nn", of_e3nn), ("torch_geometric", of_pyg), ("escnn", of_escnn)]:
        if present(host):
            test()
