"""Times compiled models beside their peers, interleaved in one run on one machine.

    for f in benches/programs/*.gdl; do gdlc build $f -o out/bench; done
    python benches/peers.py out/bench [NAME ...]       one of the workloads below; all where none is named

Prints the least and the median time of every side and the ratio of the medians to the best peer.
Needs numpy, torch, torch_geometric, e3nn and onnxruntime; a side that is not there is left out and said so. One thread
unless THREADS says otherwise.
"""

import os
import statistics
import sys
import time

THREADS = os.environ.get("THREADS", "1")
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GDL_NUM_THREADS"):
    os.environ[variable] = THREADS

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples", "call_from", "python"))
from workloads import dense, graphs, points

WORKLOADS = {
    "sgemm": dense.sgemm, "conv": dense.conv, "p4m": dense.p4m, "deepsets": dense.deepsets, "irreps": dense.irreps,
    "gcn": graphs.gcn, "gat": graphs.gat, "mpnn": graphs.mpnn,
    "tensor_product": points.tensor_product, "high_degree": points.high_degree, "nequip": points.nequip, "forces": points.forces,
}  # fmt: skip
ROUNDS, SECONDS = 5, 1.0



def measure(sides):
    """Times each side in turns, so that a slow minute of the machine is everybody's."""
    times = {name: [] for name in sides}
    for run in sides.values():
        run()
    for _ in range(ROUNDS):
        for name, run in sides.items():
            end = time.perf_counter() + SECONDS / ROUNDS
            while time.perf_counter() < end or len(times[name]) < 4:
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    return times


def main(folder, wanted):
    for name in wanted or WORKLOADS:
        flops, makers = WORKLOADS[name](folder)
        sides = {}
        for side, make in makers.items():
            try:
                sides[side] = make()
                sides[side]()
            except (ImportError, OSError) as missing:
                sides.pop(side, None)
                print(f"{name}: {side} is left out: {missing}")
        if flops is not None:  # the same numbers on every side
            results = [np.asarray(run()) for run in sides.values()]
            for result in results[1:]:
                assert np.abs(result - results[0]).max() < 1e-3 * np.abs(results[0]).max(), f"{name}: the sides disagree"
        times = measure(sides)
        best = min((statistics.median(t) for side, t in times.items() if side != "gdlc"), default=float("nan"))
        for side, t in times.items():
            middle = statistics.median(t)
            rate = f"{flops / min(t) / 1e9:7.1f} GFLOP/s" if flops else ""
            print(f"{name:15} {side:12} least {min(t) * 1e3:8.3f} ms  median {middle * 1e3:8.3f} ms  x{middle / best:5.2f} of the best peer {rate}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
