"""Fits nequip.gdl to energies and forces in PyTorch by the library's own kernels, then lets a cluster of copper move in the fitted potential.

    gdlc build examples/nequip.gdl --set c=8 --set L=1 -o out --grad 1 --bind python && pip install ./out
    python examples/training/clusters_torch.py [STEPS]

The target is ASE's EMT potential, a classical one, of three clusters of copper: their geometries relaxed in it, their atoms displaced at random.
The loss has the forces, which are derivatives of the energy already: a step derives them once more. Needs torch and ase.
"""

import sys

import numpy as np
import torch
from ase import units
from ase.cluster import Icosahedron, Octahedron
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from nequip.torch import NequIP

# 13 atoms as an icosahedron and as a cuboctahedron, 6 as an octahedron
CLUSTERS = [lambda: Icosahedron("Cu", 2), lambda: Octahedron("Cu", 3, 1), lambda: Octahedron("Cu", 2)]
CUTOFF = 5.0
FRAMES, HELD_OUT, BATCH = 60, 12, 8
TEMPERATURE = 600


def shaken(cluster, rng):
    """The cluster at rest in the potential; and its atoms displaced at random by up to 0.2 angstrom: geometries, energies, forces."""
    atoms = cluster()
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=200)
    rest, frames = atoms.positions.copy(), []
    for _ in range(FRAMES):
        atoms.positions = rest + rng.uniform(0.01, 0.2) * rng.normal(size=rest.shape)
        frames.append((atoms.copy(), atoms.get_potential_energy(), atoms.get_forces()))
    atoms.positions = rest
    return atoms, frames


def joined(atoms):
    """Clusters as one disjoint union: the arguments of the model."""
    z, r, index, senders, receivers = [], [], [], [], []
    for k, a in enumerate(atoms):
        near = (a.get_all_distances() < CUTOFF) & ~np.eye(len(a), dtype=bool)
        i, j = np.nonzero(near)
        receivers.append(i + len(z))
        senders.append(j + len(z))
        z.extend(a.numbers - 1)
        r.extend(a.positions)
        index.extend([k] * len(a))
    table = lambda parts: torch.tensor(np.concatenate(parts))
    tables = {"senders": table(senders), "receivers": table(receivers), "index": torch.tensor(index)}
    return torch.tensor(np.array(z)), torch.tensor(np.array(r), dtype=torch.float32), tables


class Fitted(Calculator):
    """The model as a calculator of ASE; `offset` is the energy of the free atoms of the fit."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, model, offset):
        super().__init__()
        self.model, self.offset = model, offset

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        z, r, tables = joined([atoms])
        with torch.no_grad():
            energy, force = self.model(z, r, **tables, samples=1)
        self.results = {"energy": energy.item() + self.offset(atoms), "forces": force.numpy().astype(float)}


def errors(model, frames, offset):
    """Mean absolute errors: of energies in eV an atom, of forces in eV/angstrom."""
    z, r, tables = joined([a for a, _, _ in frames])
    with torch.no_grad():
        energy, force = model(z, r, **tables, samples=len(frames))
    wanted = np.array([e - offset(a) for a, e, _ in frames])
    per_atom = np.abs(energy.numpy()[:, 0] - wanted) / [len(a) for a, _, _ in frames]
    return per_atom.mean(), np.abs(force.numpy() - np.concatenate([f for _, _, f in frames])).mean()


def fit(model, frames, offset, steps, rng):
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    for step in range(steps):
        chosen = [frames[k] for k in rng.choice(len(frames), BATCH, replace=False)]
        z, r, tables = joined([a for a, _, _ in chosen])
        wanted = torch.tensor(np.array([[e - offset(a)] for a, e, _ in chosen]), dtype=torch.float32)
        wanted_force = torch.tensor(np.concatenate([f for _, _, f in chosen]), dtype=torch.float32)
        energy, force = model(z, r, **tables, samples=BATCH)
        loss = (energy - wanted).square().mean() + 10 * (force - wanted_force).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % (steps // 10) == 0:
            print(f"step {step + 1}: loss {loss.item():.5f}", flush=True)


def drift(atoms, calculator, rng, picoseconds=2.0):
    """Of a trajectory at constant energy: how fast the total energy drifts and how far it ever is from the first, in eV an atom; and the mean
    temperature."""
    atoms = atoms.copy()
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=rng)
    motion, energies = VelocityVerlet(atoms, 2 * units.fs), []
    temperatures = []
    for _ in range(int(picoseconds * 1000 / 2 / 20)):
        motion.run(20)
        energies.append(atoms.get_total_energy() / len(atoms))
        temperatures.append(atoms.get_temperature())
    energies = np.array(energies)
    slope = np.polyfit(np.linspace(0, picoseconds, len(energies)), energies, 1)[0]
    return slope, np.abs(energies - energies[0]).max(), np.mean(temperatures)


def main(steps):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    rests, all_frames = zip(*(shaken(cluster, rng) for cluster in CLUSTERS))
    seen = [frame for frames in all_frames for frame in frames[:-HELD_OUT]]
    held = [frame for frames in all_frames for frame in frames[-HELD_OUT:]]
    # the mean energy of an atom: a constant, which no force sees
    mean = sum(e for _, e, _ in seen) / sum(len(a) for a, _, _ in seen)
    offset = lambda a: mean * len(a)
    print(f"{len(seen)} geometries to fit, {len(held)} held out; forces of {np.abs(np.concatenate([f for _, _, f in held])).mean():.3f} eV/A")
    model = NequIP()
    fit(model, seen, offset, steps, rng)
    energy, force = errors(model, held, offset)
    print(f"held out: energies within {1000 * energy:.1f} meV an atom, forces within {force:.3f} eV/A (mean absolute errors)")
    slope, most, temperature = drift(rests[0], Fitted(model, offset), rng)
    print(f"Cu13 for 2 ps at constant energy, {temperature:.0f} K: drift {1000 * slope:+.3f} meV an atom and ps, at most {1000 * most:.3f} meV from the start")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 600)
