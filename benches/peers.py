"""Times compiled models beside their peers, interleaved in one run on one machine.

    for f in benches/programs/*.gdl; do
        gdlc build $f -o out/cranelift && gdlc build $f -o out/llvm --backend llvm --cpu native
    done
    python benches/peers.py out/cranelift,out/llvm [--markdown] [NAME ...]

Takes folders of libraries, each of which is a side, and names of workloads; all of them where none is named. Prints the least and the
median time of every side and the ratio of the medians to the best peer; with --markdown a row of a table for each workload instead.
Needs numpy, torch, torch_geometric, e3nn, onnxruntime, scipy, jax, e3nn-jax, cuequivariance-torch and sphericart; a side that is not there is
left out and said so. One thread unless THREADS says otherwise.
"""

import contextlib
import os
import statistics
import sys
import time
import warnings

THREADS = os.environ.get("THREADS", "1")
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GDL_NUM_THREADS", "NPROC", "PJRT_NPROC"):
    os.environ[variable] = THREADS
if THREADS == "1":
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
warnings.filterwarnings("ignore")

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples", "call_from", "python"))
from workloads import dense, graphs, points

WORKLOADS = {
    "sgemm": dense.sgemm, "conv": dense.conv, "p4m": dense.p4m, "deepsets": dense.deepsets, "attention": dense.attention,
    "irreps": dense.irreps, "gcn": graphs.gcn, "gat": graphs.gat, "gat_heads": graphs.gat_heads, "mpnn": graphs.mpnn,
    "harmonics3": points.harmonics3, "harmonics6": points.harmonics6, "tensor_product": points.tensor_product,
    "high_degree": points.high_degree, "nequip": points.nequip, "forces": points.forces,
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


def sides_of(workload, folders):
    """The floating-point operations, and every side that is there: our libraries by the names of their folders, then the peers."""
    flops, peers = workload(folders[0])
    own = {os.path.basename(os.path.normpath(folder)): workload(folder)[1]["gdlc"] for folder in folders}
    del peers["gdlc"]
    sides = {}
    for side, make in (own | peers).items():
        try:
            run = make()
            run()
            sides[side] = run
        except Exception as why:  # a peer may fail in its own ways; ours may not
            if side in own and not isinstance(why, OSError):
                raise
            print(f"{workload.__name__}: {side} is left out: {(str(why).splitlines() or [repr(why)])[0]}", file=sys.stderr)
    return flops, {side: run for side, run in sides.items() if side in own}, {side: run for side, run in sides.items() if side in peers}


def row(title, times, own, best):
    """A row of a table: what was timed, each of ours with its ratio, the best peer."""
    digits = lambda ms: f"{ms:.3g}" if ms < 100 else f"{ms:.0f}"
    both = lambda side: f"{digits(min(times[side]) * 1e3)}, {digits(statistics.median(times[side]) * 1e3)} ms"
    ratio = lambda side: f"{statistics.median(times[side]) / statistics.median(times[best]):.2f}" if best else ""
    cells = [title, THREADS, *(cell for side in own for cell in (both(side), ratio(side))), f"{both(best)} ({best})" if best else ""]
    return f"| {' | '.join(cells)} |"


def main(folders, wanted, markdown):
    if markdown:
        names = [os.path.basename(os.path.normpath(folder)) for folder in folders]
        cells = ["workload", "threads", *(cell for name in names for cell in (name, "ratio")), "best peer"]
        print(f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}", flush=True)
    for name in wanted or WORKLOADS:
        flops, own, peers = sides_of(WORKLOADS[name], folders)
        sides = own | peers
        if flops is not None:  # the same numbers on every side
            results = [np.asarray(run()) for run in sides.values()]
            for side, result in zip(sides, results):
                assert np.abs(result - results[0]).max() < 1e-3 * np.abs(results[0]).max(), f"{name}: {side} disagrees"
        with contextlib.redirect_stdout(sys.stderr):
            times = measure(sides)
        best = min(peers, key=lambda side: statistics.median(times[side]), default=None)
        if markdown:
            print(row(WORKLOADS[name].__doc__.splitlines()[0].rstrip("."), times, own, best), flush=True)
            continue
        for side, t in times.items():
            middle = statistics.median(t)
            rate = f"{flops / min(t) / 1e9:7.1f} GFLOP/s" if flops else ""
            ratio = middle / statistics.median(times[best]) if best else float("nan")
            print(f"{name:15} {side:25} least {min(t) * 1e3:8.3f} ms  median {middle * 1e3:8.3f} ms  x{ratio:5.2f} of the best peer {rate}", flush=True)


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--markdown"]
    main(arguments[0].split(","), arguments[1:], "--markdown" in sys.argv)
