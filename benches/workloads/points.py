"""Points of space: tensor products on edges, and the networks made of them."""

import numpy as np

from library import Library
from workloads.peers import torch_


def tensor_product(folder):
    """Degrees up to 2; the peer takes the 11 paths with l <= 2 of the filter, gdlc all 14."""
    return products(folder, "tensor_product", 2)


def high_degree(folder):
    """Degrees up to 4; the peer takes the 42 paths with l <= 4 of the filter, gdlc all 55."""
    return products(folder, "high_degree", 4)


def products(folder, name, top):
    """Gather, tensor product, scatter on 1000 nodes and 20000 edges, 32 channels of each l <= top.

    gdlc computes harmonics and radial weights from positions in the same kernel, and takes filters of all degrees; the peer is given
    both, and stops at degree `top` in the filter: the peer has less to do. Times are compared, not numbers (those are compared in the tests).
    """
    rng = np.random.default_rng(0)
    nodes, edges, mul = 1000, 20000, 32
    r = rng.uniform(-1, 1, (nodes, 3)).astype(np.float32)
    receivers = np.sort(rng.integers(0, nodes, edges)).astype(np.int32)
    senders = ((receivers + rng.integers(1, nodes, edges)) % nodes).astype(np.int32)
    x = rng.standard_normal((nodes, mul, (top + 1) ** 2)).astype(np.float32)

    def gdlc():
        inputs = {"x": x, "r": r, "Atoms.senders": senders, "Atoms.receivers": receivers, "Atoms.index": np.zeros(nodes, np.int32)}
        return Library(folder, name).bound(inputs | {"x": x.reshape(len(x), -1)}, None, (len(x), x[0].size))

    def e3nn():
        torch = torch_()
        from e3nn import o3

        irrep = lambda l: (l, (-1) ** l)
        paths = [(i, f, o) for o in range(top + 1) for i in range(top + 1) for f in range(abs(i - o), min(top, i + o) + 1) if (i + f + o) % 2 == 0]
        product = o3.TensorProduct(
            o3.Irreps([(mul, irrep(l)) for l in range(top + 1)]), o3.Irreps([(1, irrep(l)) for l in range(top + 1)]),
            o3.Irreps([(mul, irrep(o)) for _, _, o in paths]), [(i, f, k, "uvu", True) for k, (i, f, _) in enumerate(paths)],
            shared_weights=False, internal_weights=False,
        )  # fmt: skip
        features, weights = torch.randn(nodes, mul * (top + 1) ** 2), torch.randn(edges, product.weight_numel)
        filters = o3.spherical_harmonics(list(range(top + 1)), torch.tensor(r[senders] - r[receivers]), True, "component")
        to, source = torch.tensor(receivers).long(), torch.tensor(senders).long()

        def run():
            with torch.no_grad():
                messages = product(features[source], filters, weights)
                return torch.zeros(nodes, messages.shape[1]).index_add_(0, to, messages)

        return run

    return None, {"gdlc": gdlc, "e3nn": e3nn}


def interactions(folder, name, shape, forces):
    """The energy of 100 atoms with about 50 neighbours each: three layers on 32 x (0e+1o+2e), radial MLPs 8-64-64, gates.

    The peer is the same network of e3nn's own layers with the 11 paths of l <= 2 in the filter,
    where gdlc takes all 14. Weights are random on both sides; times are compared, not numbers.
    """
    rng = np.random.default_rng(0)
    atoms, edges, mul, radius = 100, 5086, 32, 5.0
    r = rng.uniform(-1.5, 1.5, (atoms, 3)).astype(np.float32)
    receivers = np.sort(rng.integers(0, atoms, edges)).astype(np.int32)
    senders = ((receivers + rng.integers(1, atoms, edges)) % atoms).astype(np.int32)
    species = rng.integers(0, 118, atoms).astype(np.int32)

    def gdlc():
        inputs = {"z": species, "r": r, "Atoms.senders": senders, "Atoms.receivers": receivers, "Atoms.index": np.zeros(atoms, np.int32)}
        return Library(folder, name).bound(inputs, None, shape)

    def e3nn():
        torch = torch_()
        from e3nn import math as e3nn_math, nn, o3

        silu, sigmoid = torch.nn.functional.silu, torch.sigmoid
        irrep = lambda l: (l, (-1) ** l)
        full = o3.Irreps([(mul, irrep(l)) for l in range(3)])
        filters = o3.Irreps([(1, irrep(l)) for l in range(3)])

        def layer(ls):
            paths = [(i, f, o) for o in range(3) for i in ls for f in range(abs(i - o), min(2, i + o) + 1) if (i + f + o) % 2 == 0]
            product = o3.TensorProduct(
                o3.Irreps([(mul, irrep(l)) for l in ls]), filters, o3.Irreps([(mul, irrep(o)) for _, _, o in paths]),
                [(i, f, k, "uvu", True) for k, (i, f, _) in enumerate(paths)], shared_weights=False, internal_weights=False,
            )  # fmt: skip
            radial = nn.FullyConnectedNet([8, 64, 64, product.weight_numel], silu)
            gate = nn.Gate(f"{mul}x0e", [silu], f"{2 * mul}x0e", [sigmoid], full[1:])
            return product, radial, o3.Linear(product.irreps_out, gate.irreps_in), gate

        layers = [layer(ls) for ls in ((0,), (0, 1, 2), (0, 1, 2))]
        embedding, readout = torch.nn.Embedding(118, mul), o3.Linear(full, "1x0e")
        positions, kinds = torch.tensor(r), torch.tensor(species).long()
        to, source = torch.tensor(receivers).long(), torch.tensor(senders).long()

        def energy(positions):
            steps = positions[source] - positions[to]
            harmonics = o3.spherical_harmonics(filters, steps, True, "component")
            length = steps.norm(dim=1)
            bessel = e3nn_math.soft_one_hot_linspace(length, 0.0, radius, 8, "bessel", False)
            u = length / radius
            bessel = bessel * (1 - 28 * u**6 + 48 * u**7 - 21 * u**8)[:, None]
            x = embedding(kinds)
            for product, radial, linear, gate in layers:
                messages = product(x[source], harmonics, radial(bessel))
                sums = torch.zeros(atoms, messages.shape[1]).index_add_(0, to, messages)
                new = gate(linear(sums))
                x = new + torch.nn.functional.pad(x, (0, new.shape[1] - x.shape[1]))
            return readout(x).sum()

        def run():
            if not forces:
                with torch.no_grad():
                    return energy(positions)
            free = positions.clone().requires_grad_()
            return torch.autograd.grad(energy(free), free)

        return run

    return None, {"gdlc": gdlc, "e3nn": e3nn}


def nequip(folder):
    """The energy alone, `programs/nequip.gdl`."""
    return interactions(folder, "nequip", (1, 1), False)


def forces(folder):
    """The energy and the forces, `programs/forces.gdl`; the peer's by automatic differentiation."""
    return interactions(folder, "forces", [(1, 1), (100, 3)], True)
