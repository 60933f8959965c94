"""Steps of training: the p4m classifier, message passing, and NequIP with forces in its loss. A maker sets a side up and returns its step.

A step computes a loss, derives it by all weights, and moves these: plain gradient descent, the same for everybody.
"""

import os
import sys

import numpy as np

from workloads import graphs
from workloads.peers import torch_

HERE = os.path.dirname(os.path.abspath(__file__))
RATE = 1e-6


def descending(torch, parameters, loss):
    """A step of gradient descent."""
    parameters = list(parameters)

    def step():
        gradients = torch.autograd.grad(loss(), parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, gradients, alpha=-RATE)

    return step


def package(folder, name):
    """The PyTorch part of a package that `gdlc build --bind python` wrote."""
    sys.path.insert(0, folder)
    return __import__(f"{name}.torch").torch


def digits(maker):
    """The classifier of examples/digits.gdl on 64 images of 8 x 8: 8 regular fibres of p4m, windows of 5 x 5, cross entropy."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((64, 8, 8)).astype(np.float32), rng.integers(0, 10, 64)

    def of_torch(folder):
        torch = torch_()
        x, y = torch.tensor(images), torch.tensor(labels)
        parameters, classify = maker(folder, torch)
        return descending(torch, parameters, lambda: torch.nn.functional.cross_entropy(classify(x), y))

    return of_torch


def digits_gdlc(folder, torch):
    model = package(folder, "digits").Digits()
    return model.parameters(), lambda x: model(x[..., None])


def digits_torch(folder, torch, compiled=False):
    """Filters expanded in every step, then plain convolutions: the reference of the examples."""
    sys.path.insert(0, os.path.join(HERE, "..", "..", "examples"))
    import train_digits

    group = train_digits.MODELS["digits"]
    p = {name: w.requires_grad_() for name, w in group.initial().items()}
    forward = torch.compile(lambda x: group.forward(p, x)) if compiled else lambda x: group.forward(p, x)
    return p.values(), forward


def digits_escnn(folder, torch):
    from escnn import gspaces, nn

    group = gspaces.flipRot2dOnR2(4)
    one, regular = nn.FieldType(group, [group.trivial_repr]), nn.FieldType(group, 8 * [group.regular_repr])
    layers = nn.SequentialModule(
        nn.R2Conv(one, regular, 5, padding=2), nn.ReLU(regular), nn.R2Conv(regular, regular, 5, padding=2), nn.ReLU(regular),
        nn.PointwiseAvgPool(regular, 2), nn.GroupPooling(regular),
    )  # fmt: skip
    last = torch.nn.Linear(8, 10)
    classify = lambda x: last(layers(nn.GeometricTensor(x[:, None], one)).tensor.amax(dim=(2, 3)))
    return [*layers.parameters(), *last.parameters()], classify


def mpnn(maker):
    """Messages of two layers, the greatest kept, `programs/mpnn.gdl`: 10000 nodes, 160000 edges, 128 channels; the loss is the mean square."""
    senders, receivers = graphs.graph()
    x = np.random.default_rng(1).standard_normal((graphs.NODES, graphs.CHANNELS)).astype(np.float32)

    def of_torch(folder):
        torch = torch_()
        parameters, forward = maker(folder, torch, torch.tensor(senders).long(), torch.tensor(receivers).long())
        rows = torch.tensor(x)
        return descending(torch, parameters, lambda: forward(rows).square().mean())

    return of_torch


def mpnn_gdlc(folder, torch, senders, receivers):
    model = package(folder, "mpnn").MPNN()
    return model.parameters(), lambda rows: model(rows, senders=senders, receivers=receivers)


def mpnn_torch(folder, torch, senders, receivers, factored=False, compiled=False):
    c, spread = graphs.CHANNELS, receivers[:, None].expand(-1, graphs.CHANNELS)
    first, second = torch.nn.Linear(2 * c, c), torch.nn.Linear(c, c)

    def forward(rows):
        if factored:
            hidden = torch.nn.functional.linear(rows, first.weight[:, :c], first.bias)[receivers] + (rows @ first.weight[:, c:].T)[senders]
        else:
            hidden = first(torch.cat([rows[receivers], rows[senders]], 1))
        messages = second(torch.nn.functional.silu(hidden))
        return torch.zeros_like(rows).scatter_reduce(0, spread, messages, "amax", include_self=False)

    return [*first.parameters(), *second.parameters()], torch.compile(forward) if compiled else forward


def mpnn_pyg(folder, torch, senders, receivers, compiled=False):
    from torch_geometric.nn import MessagePassing

    class Layer(MessagePassing):
        def __init__(self):
            super().__init__(aggr="max")
            c = graphs.CHANNELS
            self.network = torch.nn.Sequential(torch.nn.Linear(2 * c, c), torch.nn.SiLU(), torch.nn.Linear(c, c))

        def forward(self, x, edges):
            return self.propagate(edges, x=x)

        def message(self, x_i, x_j):
            return self.network(torch.cat([x_i, x_j], 1))

    layer, edges = Layer(), torch.stack([senders, receivers])
    forward = torch.compile(layer) if compiled else layer
    return layer.parameters(), lambda rows: forward(rows, edges)


ATOMS, EDGES, MUL, RADIUS = 100, 5086, 32, 5.0


def cloud():
    """Positions, species, senders and receivers of 100 atoms with about 50 neighbours each."""
    rng = np.random.default_rng(0)
    r = rng.uniform(-1.5, 1.5, (ATOMS, 3)).astype(np.float32)
    receivers = np.sort(rng.integers(0, ATOMS, EDGES)).astype(np.int32)
    senders = ((receivers + rng.integers(1, ATOMS, EDGES)) % ATOMS).astype(np.int32)
    return r, rng.integers(0, 118, ATOMS).astype(np.int32), senders, receivers


def forces_gdlc(folder):
    """NequIP, `programs/forces.gdl`: the loss is the square of the energy and the mean square of the forces, derivatives of derivatives therefore."""
    torch = torch_()
    model = package(folder, "forces").NequIP()
    r, z, senders, receivers = (torch.tensor(t) for t in cloud())

    def loss():
        energy, force = model(z, r, senders=senders, receivers=receivers, samples=1)
        return energy.square().sum() + force.square().mean()

    return descending(torch, model.parameters(), loss)


def paths_of(ls):
    """The couplings of e3nn's NequIP: of degree i with a filter of degree f to o, all at most 2, of natural parity."""
    return [(i, f, o) for o in range(3) for i in ls for f in range(abs(i - o), min(2, i + o) + 1) if (i + f + o) % 2 == 0]


def forces_e3nn(folder, compiled=False):
    torch = torch_()
    from e3nn import math as e3nn_math, nn, o3

    silu, sigmoid = torch.nn.functional.silu, torch.sigmoid
    irrep = lambda l: (l, (-1) ** l)
    full, filters = o3.Irreps([(MUL, irrep(l)) for l in range(3)]), o3.Irreps([(1, irrep(l)) for l in range(3)])

    def layer(ls):
        paths = paths_of(ls)
        product = o3.TensorProduct(
            o3.Irreps([(MUL, irrep(l)) for l in ls]), filters, o3.Irreps([(MUL, irrep(o)) for _, _, o in paths]),
            [(i, f, k, "uvu", True) for k, (i, f, _) in enumerate(paths)], shared_weights=False, internal_weights=False,
        )  # fmt: skip
        radial = nn.FullyConnectedNet([8, 64, 64, product.weight_numel], silu)
        gate = nn.Gate(f"{MUL}x0e", [silu], f"{2 * MUL}x0e", [sigmoid], full[1:])
        return torch.nn.ModuleList([product, radial, o3.Linear(product.irreps_out, gate.irreps_in), gate])

    layers = torch.nn.ModuleList([layer(ls) for ls in ((0,), (0, 1, 2), (0, 1, 2))])
    embedding, readout = torch.nn.Embedding(118, MUL), o3.Linear(full, "1x0e")
    positions, kinds, source, to = (torch.tensor(t) for t in cloud())
    source, to = source.long(), to.long()

    def energy(positions):
        steps = positions[source] - positions[to]
        harmonics = o3.spherical_harmonics(filters, steps, True, "component")
        length = steps.norm(dim=1)
        u = length / RADIUS
        bessel = e3nn_math.soft_one_hot_linspace(length, 0.0, RADIUS, 8, "bessel", False) * (1 - 28 * u**6 + 48 * u**7 - 21 * u**8)[:, None]
        x = embedding(kinds)
        for product, radial, linear, gate in layers:
            messages = product(x[source], harmonics, radial(bessel))
            new = gate(linear(torch.zeros(ATOMS, messages.shape[1]).index_add_(0, to, messages)))
            x = new + torch.nn.functional.pad(x, (0, new.shape[1] - x.shape[1]))
        return readout(x).sum()

    energy = torch.compile(energy) if compiled else energy

    def loss():
        free = positions.clone().requires_grad_()
        total = energy(free)
        (force,) = torch.autograd.grad(total, free, create_graph=True)
        return total.square() + force.square().mean()

    return descending(torch, [*layers.parameters(), *embedding.parameters(), *readout.parameters()], loss)


def forces_e3nn_jax(folder):
    """The same network of e3nn-jax's harmonics and tensor products, everything in one jit."""
    import e3nn_jax as e3nn
    import jax
    import jax.numpy as jnp

    positions, kinds, source, to = (jnp.asarray(t) for t in cloud())
    filters = e3nn.Irreps("0e+1o+2e")
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.standard_normal(shape) / np.sqrt(shape[0]), jnp.float32)
    silu = e3nn.normalize_function(jax.nn.silu)

    def layer(ls):
        paths = paths_of(ls)
        counts = [sum(o == l for _, _, o in paths) for l in range(3)]
        radial = [normal(8, 64), normal(64, 64), normal(64, len(paths) * MUL)]
        return {"radial": radial, "linear": [normal(n * MUL, MUL * (3 if l == 0 else 1)) for l, n in enumerate(counts)]}

    degrees = [(0,), (0, 1, 2), (0, 1, 2)]
    params = {"embedding": normal(118, MUL), "layers": [layer(ls) for ls in degrees], "readout": normal(MUL)}

    def interaction(p, ls, x, harmonics, bessel):
        hidden = bessel
        for w in p["radial"][:-1]:
            hidden = silu(hidden @ w)
        weights = (hidden @ p["radial"][-1]).reshape(EDGES, MUL, -1)
        irreps = e3nn.Irreps([(1, (l, (-1) ** l)) for l in ls])
        features = e3nn.IrrepsArray(irreps, jnp.concatenate([x[l] for l in ls], -1))
        product = e3nn.tensor_product(features[source], harmonics[:, None], filter_ir_out=["0e", "1o", "2e"])
        sums, at = [[] for _ in range(3)], 0
        for (mul, ir), chunk in zip(product.irreps, product.chunks):
            weighted = chunk * weights[:, :, at:at + mul, None]
            at += mul
            sums[ir.l].append(jax.ops.segment_sum(weighted, to, ATOMS).reshape(ATOMS, MUL * mul, -1))
        assert at == weights.shape[-1]
        new = [jnp.einsum("num,uv->nvm", jnp.concatenate(sums[l], 1), p["linear"][l]) for l in range(3)]
        gates = jax.nn.sigmoid(new[0][:, MUL:])
        return [silu(new[0][:, :MUL]), new[1] * gates[:, :MUL], new[2] * gates[:, MUL:]]

    def energy(params, positions):
        steps = positions[source] - positions[to]
        harmonics = e3nn.spherical_harmonics(filters, steps, True, "component")
        length = jnp.linalg.norm(steps, axis=1)
        bessel = e3nn.bessel(length, 8, RADIUS) * e3nn.poly_envelope(5, 2, RADIUS)(length)[:, None]
        x = {0: params["embedding"][kinds][:, :, None]}
        for p, ls in zip(params["layers"], degrees):
            new = interaction(p, ls, x, harmonics, bessel)
            x = {l: new[l] + x.get(l, 0) for l in range(3)}
        return (x[0][:, :, 0] @ params["readout"]).sum()

    def loss(params):
        total, force = jax.value_and_grad(energy, 1)(params, positions)
        return total**2 + (force**2).mean()

    descend = jax.jit(lambda params: jax.tree.map(lambda w, g: w - RATE * g, params, jax.grad(loss)(params)))
    state = [params]

    def step():
        state[0] = jax.block_until_ready(descend(state[0]))

    return step


def with_options(maker, **options):
    return lambda *given: maker(*given, **options)


WORKLOADS = {
    "digits": {
        "gdlc": digits(digits_gdlc), "gdlc llvm": digits(digits_gdlc), "torch": digits(digits_torch),
        "torch compiled": digits(with_options(digits_torch, compiled=True)), "escnn": digits(digits_escnn),
    },
    "mpnn": {
        "gdlc": mpnn(mpnn_gdlc), "gdlc llvm": mpnn(mpnn_gdlc), "torch": mpnn(mpnn_torch),
        "torch factored": mpnn(with_options(mpnn_torch, factored=True)),
        "torch compiled": mpnn(with_options(mpnn_torch, factored=True, compiled=True)),
        "PyG": mpnn(mpnn_pyg), "PyG compiled": mpnn(with_options(mpnn_pyg, compiled=True)),
    },
    "forces": {
        "gdlc": forces_gdlc, "gdlc llvm": forces_gdlc, "e3nn": forces_e3nn,
        "e3nn compiled": with_options(forces_e3nn, compiled=True), "e3nn-jax": forces_e3nn_jax,
    },
}  # fmt: skip
