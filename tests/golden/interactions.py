"""Writes mpnn_layer.safetensors and tensor_field.safetensors: two edge layers computed without gdlc, in f64.

mpnn_layer: y_i = W2 [x_i, max_{j~i} (W1 [x_i, x_j, e_ij] + b1)] + b2, an empty maximum being 0 (plain numpy).
    `w1` [c, 2a + b], `w2` [c, a + c] act on the concatenation in that order. Node 5 has no neighbour.
tensor_field: per channel u, y_i = sum_{j~i} sum_paths sqrt(2 lo + 1) w3j(li, lf, lo) x_j Y_lf(r_j - r_i) R_path,u(d)
    over every path (li, lf, lo) of O(3) with parities (-1)^l, ordered by lo, then li, then lf (`paths`).
    R = silu(silu(bessel @ w1) @ w2) @ w3, column path * c + u; eight functions
    bessel_n = sqrt(2 / rc) sin(n pi d / rc) / d, times 1 - 28 t^6 + 48 t^7 - 21 t^8, t = d / rc (p = 6).
    x and y are [node, channel, 1 + 3 + 5], real harmonics of e3nn (polar axis y), component normalisation.
    Computed from e3nn 0.6.0's `TensorProduct`, and once more from its Wigner 3j; both agree to 1e-12.
    Checked: with positions moved by `rotation` (a rotoreflection) and x by `turn`, y moves by `turn`.

Edges run from sender to receiver, sorted by receiver. Needs numpy, torch, e3nn, safetensors.
"""

import os

import numpy as np
import torch
from e3nn import o3
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
CUTOFF = 5.0


def random_edges(rng, n, isolated, probability):
    """Directed edges of a random graph in which `isolated` receives nothing."""
    linked = rng.random((n, n)) < probability
    np.fill_diagonal(linked, False)
    linked[isolated] = False
    receivers, senders = np.nonzero(linked)
    return senders, receivers


def mpnn_layer():
    rng = np.random.default_rng(0)
    n, a, b, c = 9, 4, 2, 6
    senders, receivers = random_edges(rng, n, 5, 0.35)
    x, e = rng.normal(size=(n, a)), rng.normal(size=(len(senders), b))
    w1, b1 = rng.normal(size=(c, 2 * a + b)), rng.normal(size=c)
    w2, b2 = rng.normal(size=(c, a + c)), rng.normal(size=c)
    y = np.empty((n, c))
    for i in range(n):
        messages = [w1 @ np.concatenate([x[i], x[senders[k]], e[k]]) + b1 for k in np.nonzero(receivers == i)[0]]
        y[i] = w2 @ np.concatenate([x[i], np.max(messages, axis=0) if messages else np.zeros(c)]) + b2
    return dict(x=x, e=e, senders=senders, receivers=receivers, w1=w1, b1=b1, w2=w2, b2=b2, y=y)


def paths(top):
    """(li, lf, lo) with natural parity: li + lf + lo even."""
    degrees = range(top + 1)
    return [(i, f, o) for o in degrees for i in degrees for f in range(abs(i - o), i + o + 1) if (i + f + o) % 2 == 0]


def radial(d, w):
    order = np.arange(1, 9)
    t = d / CUTOFF
    envelope = 1 - 28 * t**6 + 48 * t**7 - 21 * t**8
    h = np.sqrt(2 / CUTOFF) * np.sin(order * np.pi * t[:, None]) / d[:, None] * envelope[:, None]
    silu = lambda v: v / (1 + np.exp(-v))
    return silu(silu(h @ w[0]) @ w[1]) @ w[2]


def tensor_field_of(x, r, senders, receivers, w, top):
    """The layer by Wigner 3j symbols, one path at a time."""
    n, c, _ = x.shape
    v = r[senders] - r[receivers]
    weight = radial(np.linalg.norm(v, axis=1), w)
    block = lambda l: slice(l * l, (l + 1) * (l + 1))
    y = np.zeros_like(x)
    for k, (i, f, o) in enumerate(paths(top)):
        harmonics = o3.spherical_harmonics(f, torch.tensor(v), True, "component").numpy()
        constants = np.sqrt(2 * o + 1) * o3.wigner_3j(i, f, o, dtype=torch.float64).numpy()
        message = np.einsum("ifo,eui,ef,eu->euo", constants, x[senders][..., block(i)], harmonics, weight[:, k * c : (k + 1) * c])
        np.add.at(y[..., block(o)], receivers, message)
    return y


def by_tensor_product(x, r, senders, receivers, w, top):
    """The same layer by e3nn's TensorProduct."""
    n, c, _ = x.shape
    irrep = lambda l: (l, (-1) ** l)
    degrees, all_paths = range(top + 1), paths(top)
    ins = o3.Irreps([(c, irrep(l)) for l in degrees])
    filters = o3.Irreps([(1, irrep(l)) for l in range(2 * top + 1)])
    outs = o3.Irreps([(c, irrep(o)) for _, _, o in all_paths])
    # one output block a path, so that no path normalisation enters; summed below
    steps = [(i, f, k, "uvu", True) for k, (i, f, _) in enumerate(all_paths)]
    product = o3.TensorProduct(ins, filters, outs, steps, shared_weights=False, internal_weights=False)
    v = torch.tensor(r[senders] - r[receivers])
    flat = torch.cat([torch.tensor(x[..., l * l : (l + 1) ** 2]).reshape(n, -1) for l in degrees], 1)
    weight = torch.tensor(radial(v.norm(dim=1).numpy(), w))
    message = product(flat[senders], o3.spherical_harmonics(filters, v, True, "component"), weight)
    total = torch.zeros(n, outs.dim).index_add_(0, torch.tensor(receivers), message)
    y = np.zeros_like(x)
    for (_, _, o), part in zip(all_paths, outs.slices()):
        y[..., o * o : (o + 1) ** 2] += total[:, part].reshape(n, c, 2 * o + 1).numpy()
    return y


def tensor_field():
    rng = np.random.default_rng(1)
    n, c, top, hidden = 7, 3, 2, 8
    r = rng.uniform(-2.5, 2.5, (n, 3))
    distance = np.linalg.norm(r[:, None] - r[None], axis=-1)
    receivers, senders = np.nonzero((distance < CUTOFF) & ~np.eye(n, dtype=bool))
    x = rng.normal(size=(n, c, (top + 1) ** 2))
    widths = [8, hidden, hidden, len(paths(top)) * c]
    w = [rng.normal(size=(p, q)) / np.sqrt(p) for p, q in zip(widths, widths[1:])]
    y = tensor_field_of(x, r, senders, receivers, w, top)
    assert np.abs(y - by_tensor_product(x, r, senders, receivers, w, top)).max() < 1e-12 * np.abs(y).max()

    # turned by R, then reflected through the origin: x and y transform alike
    angles = torch.tensor([0.4, 1.3, -2.1])
    rotation = o3.angles_to_matrix(*angles).numpy()
    turn = np.zeros((9, 9))
    for l in range(top + 1):
        turn[l * l : (l + 1) ** 2, l * l : (l + 1) ** 2] = (-1) ** l * o3.wigner_D(l, *angles).numpy()
    moved = tensor_field_of(x @ turn.T, -r @ rotation.T, senders, receivers, w, top)
    assert np.abs(moved - y @ turn.T).max() < 1e-12 * np.abs(y).max()
    return dict(x=x, r=r, senders=senders, receivers=receivers, w1=w[0], w2=w[1], w3=w[2], y=y,
                paths=np.array(paths(top)), rotation=-rotation, turn=turn)  # fmt: skip


def main():
    torch.set_default_dtype(torch.float64)
    for name, tensors in {"mpnn_layer": mpnn_layer(), "tensor_field": tensor_field()}.items():
        tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
        save_file(tensors, os.path.join(HERE, f"{name}.safetensors"))
        print(name, {k: list(v.shape) for k, v in tensors.items()})


if __name__ == "__main__":
    main()
