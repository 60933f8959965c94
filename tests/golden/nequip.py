"""Writes nequip.weights.safetensors and nequip_energy.safetensors: the energies of examples/nequip.gdl, computed without gdlc.

The model with `--set c=4` on examples/data/molecules.safetensors, in f64, by numpy and e3nn's harmonics and Wigner 3j symbols.
The weights are random numbers of f32, so that they are the same in either precision. Line for line:

    f = embedding of z on the scalars
    three times: f = f + gate(linear(depthwise(f)))
    depthwise:  self * f_i + (m/n)^(-1/2) sum_{j~i} paths of tests/golden/interactions.py, bias on the scalars; m/n = 2400/300
    linear:     one matrix a degree, bias on the scalars
    gate:       silu of the scalars; the copies of degrees 1, 2, ... times sigmoid(W s + b), gates in that order
    energy = sum over the atoms of a molecule of a linear map of the scalars
"""

import os

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from interactions import HERE, paths, tensor_field_of

C, TOP, TURNS, HIDDEN = 4, 2, 3, 64
TAGS = ["0e", "1o", "2e"]
MEAN_DEGREE = 2400 / 300


def shapes():
    """Name -> shape of each weight."""
    res = {"f.linear.weight": (C, 118), "f.linear.bias": (C,)}
    for k in range(1, TURNS + 1):
        field, mix, gate = f"f.{k}.depthwise", f"f.{k}.linear", f"f.{k}.gate"
        widths = [8, HIDDEN, HIDDEN, len(paths(TOP)) * C]
        res |= {f"{field}.radial.{i + 1}.weight": (widths[i + 1], widths[i]) for i in range(3)}
        res |= {f"{field}.self.{tag}": (C,) for tag in TAGS} | {f"{field}.bias": (C,)}
        res |= {f"{mix}.weight.{tag}": (C, C) for tag in TAGS} | {f"{mix}.bias": (C,)}
        res |= {f"{gate}.weight": (TOP * C, C), f"{gate}.bias": (TOP * C,)}
    return res | {"energy.linear.weight": (1, C), "energy.linear.bias": (1,)}


def energies(w, data):
    """Energies [molecule]."""
    r, senders, receivers = data["r"].astype(np.float64), data["Atoms.senders"], data["Atoms.receivers"]
    block = lambda l: slice(l * l, (l + 1) ** 2)
    f = np.zeros((len(r), C, (TOP + 1) ** 2))
    f[..., 0] = w["f.linear.weight"].T[data["z"]] + w["f.linear.bias"]
    for k in range(1, TURNS + 1):
        field, mix, gate = f"f.{k}.depthwise", f"f.{k}.linear", f"f.{k}.gate"
        radial = [w[f"{field}.radial.{i}.weight"].T for i in (1, 2, 3)]
        g = tensor_field_of(f, r, senders, receivers, radial, TOP) / np.sqrt(MEAN_DEGREE)
        for l, tag in enumerate(TAGS):
            g[..., block(l)] += w[f"{field}.self.{tag}"][:, None] * f[..., block(l)]
        g[..., 0] += w[f"{field}.bias"]
        g = np.concatenate([np.einsum("uv,nvk->nuk", w[f"{mix}.weight.{tag}"], g[..., block(l)]) for l, tag in enumerate(TAGS)], -1)
        g[..., 0] += w[f"{mix}.bias"]
        sigmoid = lambda v: 1 / (1 + np.exp(-v))
        gates = sigmoid(g[..., 0] @ w[f"{gate}.weight"].T + w[f"{gate}.bias"]).reshape(len(r), TOP, C)
        g[..., 0] *= sigmoid(g[..., 0])
        for l in range(1, TOP + 1):
            g[..., block(l)] *= gates[:, l - 1, :, None]
        f = f + g
    atoms = f[..., 0] @ w["energy.linear.weight"][0] + w["energy.linear.bias"][0]
    return np.bincount(data["Atoms.index"], weights=atoms)


def main():
    torch.set_default_dtype(torch.float64)
    rng = np.random.default_rng(2)
    draw = lambda name, shape: rng.normal(size=shape) / np.sqrt(shape[1] if len(shape) > 1 and name != "f.linear.weight" else 2)
    weights = {name: draw(name, shape).astype(np.float32) for name, shape in shapes().items()}
    data = load_file(os.path.join(HERE, "..", "..", "examples", "data", "molecules.safetensors"))
    energy = energies({k: v.astype(np.float64) for k, v in weights.items()}, data)
    save_file(weights, os.path.join(HERE, "nequip.weights.safetensors"))
    save_file({"energy": energy}, os.path.join(HERE, "nequip_energy.safetensors"))
    print(f"{len(energy)} energies from {energy.min():.3f} to {energy.max():.3f}")


if __name__ == "__main__":
    main()
