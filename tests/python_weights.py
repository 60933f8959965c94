"""Weights of torch, e3nn and PyG layers in a model of the same map: the outputs are those of the library itself, in f64.

`python_package.py` calls `check` with its `install` where torch is; a library that is not there is left out, with a word.
"""

import os

import torch

from python_package import present

PROGRAMS = {
    "convolution": """domain P = grid(n, k) under shift
model Convolution(x: P -> 3): P -> 4 = x |> linear 5 over 3x5 |> relu |> linear 4
""",
    "irreps": """domain Atoms = points(n, m) in R3 under E(3)
model Irreps(x: Atoms -> 4x0e + 3x1o + 2x1e): Atoms -> 5x0e + 2x1o + 3x1e = x |> linear 5x0e + 2x1o + 3x1e
""",
    "nodes": """use graph
domain G = graph(n, m)
model Nodes(x: G -> 3): G -> 2 = gcn[2](x)
""",
}


def close(found, expected, what):
    error = (torch.as_tensor(found) - expected).abs().max() / expected.abs().max()
    assert error < 1e-10, f"{what}: {error:.1e}"
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


def of_e3nn(package):
    from e3nn import o3

    # blocks of a kind apart from each other are joined; the input is given in the order of the joined ones
    layer = o3.Linear("3x0e + 3x1o + 2x1e + 1x0e", "5x0e + 2x1o + 3x1e", biases=True).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(7, 19, dtype=torch.float64)
    weights = package.weights.from_e3nn("linear1", layer)
    scalars, rest, last = x[:, :3], x[:, 3:18], x[:, 18:]
    y = package.numpy.call(weights, torch.cat([scalars, last, rest], 1).numpy(), m=0)
    close(y, layer(x).detach(), "e3nn.o3.Linear")


def of_pyg(package):
    from torch_geometric.nn import GCNConv

    layer = GCNConv(3, 2, bias=False, add_self_loops=False).double()
    pairs = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]
    both = sorted((receiver, sender) for a, b in pairs for receiver, sender in [(a, b), (b, a)])
    receivers, senders = torch.tensor(both).T.contiguous()
    x = torch.randn(4, 3, dtype=torch.float64)
    name = package.MODEL.weights[0].name.removesuffix(".weight")
    weights = package.weights.from_pyg(name, layer)
    y = package.numpy.call(weights, x.numpy(), senders=senders.numpy(), receivers=receivers.numpy())
    close(y, layer(x, torch.stack([senders, receivers])).detach(), "torch_geometric.nn.GCNConv")


def check(install, folder):
    torch.manual_seed(0)
    for name, text in PROGRAMS.items():
        program = os.path.join(folder, f"{name}.gdl")
        with open(program, "w") as file:
            file.write(text)
        install(program, os.path.join(folder, name), "--dtype", "f64")
    import convolution.numpy
    import convolution.weights
    import irreps.numpy
    import irreps.weights
    import nodes.numpy
    import nodes.weights

    of_torch(convolution)
    if present("e3nn"):
        of_e3nn(irreps)
    if present("torch_geometric"):
        of_pyg(nodes)
