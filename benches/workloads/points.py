"""Points of space: tensor products on edges, and the networks made of them."""

import numpy as np

from library import Library
from workloads.peers import of_jax, of_torch, torch_


def harmonics3(folder):
    """Harmonics up to degree 3 of 10^6 vectors."""
    return harmonics(folder, 3)


def harmonics6(folder):
    """Harmonics up to degree 6 of 10^6 vectors."""
    return harmonics(folder, 6)


def harmonics(folder, top):
    """The peers' axes and orders differ: times are compared, not numbers (those are in the tests)."""
    vectors = np.random.default_rng(0).standard_normal((1_000_000, 3)).astype(np.float32)
    degrees = list(range(top + 1))

    def gdlc():
        count = len(vectors)
        edges = {"Points.senders": np.zeros(0, np.int32), "Points.receivers": np.zeros(0, np.int32)}
        inputs = {"v": vectors, "Points.index": np.zeros(count, np.int32)} | edges
        return Library(folder, f"harmonics{top}").bound(inputs, None, (count, (top + 1) ** 2))

    def e3nn(compiled):
        torch = torch_()
        from e3nn import o3

        return of_torch(o3.SphericalHarmonics(degrees, True, "component"), torch.tensor(vectors), compiled=compiled)

    def cuequivariance():
        torch = torch_()
        from cuequivariance_torch import SphericalHarmonics

        return of_torch(SphericalHarmonics(degrees, True, method="naive"), torch.tensor(vectors))

    def e3nn_jax():
        import e3nn_jax

        names = "+".join(f"{l}{'eo'[l % 2]}" for l in degrees)
        of = lambda v: e3nn_jax.spherical_harmonics(names, e3nn_jax.IrrepsArray("1o", v), True, "component").array
        return of_jax(of, vectors)

    def sphericart():
        import sphericart

        computed = sphericart.SphericalHarmonics(top)
        return lambda: computed.compute(vectors)

    sides = {"gdlc": gdlc, "sphericart": sphericart, "e3nn": lambda: e3nn(False), "e3nn compiled": lambda: e3nn(True)}
    return None, sides | {"e3nn-jax": e3nn_jax} | ({"cuequivariance": cuequivariance} if top <= 3 else {})


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

    def e3nn(compiled=False, by_rows=False):
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
        begin = torch.searchsorted(to, torch.arange(nodes + 1))
        adds = torch.sparse_csr_tensor(begin, torch.arange(edges), torch.ones(edges), (nodes, edges))

        def layer(features, filters, weights, source, to):
            messages = product(features[source], filters, weights)
            return torch.zeros(nodes, messages.shape[1]).index_add_(0, to, messages)

        if by_rows:
            return of_torch(lambda: adds @ product(features[source], filters, weights))
        return of_torch(layer, features, filters, weights, source, to, compiled=compiled)

    def cuequivariance():
        torch = torch_()
        import cuequivariance as cue
        from cuequivariance_torch import ChannelWiseTensorProduct

        names = lambda mul: cue.Irreps("O3", "+".join(f"{mul}x{l}{'eo'[l % 2]}" for l in range(top + 1)))
        results = [cue.O3(l, (-1) ** l) for l in range(top + 1)]
        layout = dict(layout=cue.ir_mul, shared_weights=False, method="naive")
        product = ChannelWiseTensorProduct(names(mul), names(1), results, **layout)
        features, weights = torch.randn(nodes, mul * (top + 1) ** 2), torch.randn(edges, product.weight_numel)
        filters = torch.randn(edges, (top + 1) ** 2)
        to, source = torch.tensor(receivers).long(), torch.tensor(senders).long()
        return of_torch(lambda: product(features, filters, weights, indices_1=source, indices_out=to, size_out=nodes))

    sides = {"gdlc": gdlc, "e3nn": lambda: e3nn(), "e3nn compiled": lambda: e3nn(compiled=True)}
    return None, sides | {"e3nn, CSR": lambda: e3nn(by_rows=True), "cuequivariance": cuequivariance}


def interactions(folder, name, shape, forces):
    """The energy of 100 atoms, the 5086 edges within a radius: three layers on 32 x (0e+1o+2e), radial MLPs 8-64-64, gates.

    The peer is the same network of e3nn's own layers with the 11 paths of l <= 2 in the filter,
    where gdlc takes all 14. Weights are random on both sides; times are compared, not numbers.
    """
    rng = np.random.default_rng(0)
    atoms, edges, mul, radius = 100, 5086, 32, 5.0
    r = rng.uniform(-1.0, 1.0, (atoms, 3)).astype(np.float32)
    distances = np.linalg.norm(r[:, None] - r, axis=2) + np.diag(np.full(atoms, np.inf))
    between = np.sort(distances, axis=None)[edges - 1 : edges + 1]  # each distance is there twice
    receivers, senders = (end.astype(np.int32) for end in np.nonzero(distances < between.mean()))
    r *= radius / between.mean()
    species = rng.integers(0, 118, atoms).astype(np.int32)

    def gdlc():
        inputs = {"z": species, "r": r, "Atoms.senders": senders, "Atoms.receivers": receivers, "Atoms.index": np.zeros(atoms, np.int32)}
        return Library(folder, name).bound(inputs, None, shape)

    def e3nn(compiled):
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

        if not forces:
            return of_torch(energy, positions, compiled=compiled)

        def run():
            free = positions.clone().requires_grad_()
            return torch.autograd.grad(energy(free), free)

        return run

    compiled = {} if forces else {"e3nn compiled": lambda: e3nn(True)}
    return None, {"gdlc": gdlc, "e3nn": lambda: e3nn(False)} | compiled


def nequip(folder):
    """The energy alone, `programs/nequip.gdl`."""
    return interactions(folder, "nequip", (1, 1), False)


def forces(folder):
    """The energy and the forces, `programs/forces.gdl`; the peer's by automatic differentiation."""
    return interactions(folder, "forces", [(1, 1), (100, 3)], True)
