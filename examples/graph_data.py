"""Writes examples/data/karate.safetensors and examples/data/molecules.safetensors.

Needs numpy, networkx, ase and safetensors. Edges run from sender to receiver, sorted by receiver
(then sender), without self-loops; `index` says to which graph or molecule a node belongs.
"""

import os

import networkx as nx
import numpy as np
from ase.build import molecule
from ase.collections import g2
from safetensors.numpy import save_file

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
CUTOFF = 5.0
MOLECULES = 40


def karate():
    """34 members; x marks the two leaders, e is the weight of a tie, labels the club after the split."""
    club = nx.karate_club_graph()
    n = club.number_of_nodes()
    ties = sorted((i, j, club[i][j]["weight"]) for i in club for j in club[i])  # receiver, sender, weight
    x = np.zeros((n, 2), np.float32)
    x[0, 0] = x[n - 1, 1] = 1  # the instructor and the officer
    labels = np.array([int(club.nodes[i]["club"] == "Officer") for i in club], np.int32)
    rng, seen = np.random.default_rng(0), np.zeros(n, np.int32)
    for side, leader in ((0, 0), (1, n - 1)):  # labelled in training: each leader and three others of the side
        seen[leader] = 1
        seen[rng.choice(np.setdiff1d(np.nonzero(labels == side)[0], leader), 3, replace=False)] = 1
    return {
        "x": x,
        "e": np.array([[w] for _, _, w in ties], np.float32),
        "labels": labels,
        "seen": seen,
        "Graph.senders": np.array([j for _, j, _ in ties], np.int32),
        "Graph.receivers": np.array([i for i, _, _ in ties], np.int32),
        "Graph.index": np.zeros(n, np.int32),
    }


def molecules():
    """A disjoint union of molecules: z = atomic number - 1 (a class index), r in angstrom."""
    chosen = [m for m in map(molecule, sorted(g2.names)) if len(m) >= 3][:MOLECULES]
    z, r, index, senders, receivers = [], [], [], [], []
    for k, m in enumerate(chosen):
        distance = np.linalg.norm(m.positions[:, None] - m.positions[None], axis=-1)
        i, j = np.nonzero((distance < CUTOFF) & ~np.eye(len(m), dtype=bool))  # row-major: sorted by receiver
        receivers.append(i + len(z))
        senders.append(j + len(z))
        z.extend(m.numbers - 1)
        r.extend(m.positions)
        index.extend([k] * len(m))
    return {
        "z": np.array(z, np.int32),
        "r": np.array(r, np.float32),
        "Atoms.senders": np.concatenate(senders).astype(np.int32),
        "Atoms.receivers": np.concatenate(receivers).astype(np.int32),
        "Atoms.index": np.array(index, np.int32),
    }


def main():
    for name, tensors in {"karate": karate(), "molecules": molecules()}.items():
        save_file(tensors, os.path.join(DATA, f"{name}.safetensors"))
        print(name, {k: list(v.shape) for k, v in tensors.items()})


if __name__ == "__main__":
    main()
