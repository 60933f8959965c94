"""Times steps of training: forward, backward, weights moved against their gradients. Prints the time of a step and the peak of memory.

    gdlc build examples/digits.gdl --grad 1 --bind python -o out/train
    gdlc build benches/programs/mpnn.gdl --grad 1 --bind python -o out/train
    gdlc build benches/programs/forces.gdl --grad 1 --bind python -o out/train
    python benches/training.py out/train [NAME ...]        one of the workloads below; all where none is named

A side is a process of its own, so that its memory is; the processes take turns. The interpreter of a side is the one of its library where
ESCNN_PYTHON, JAX_PYTHON or LLVM_TRAIN (another folder, of libraries by LLVM) name it, else this one. A side whose library is missing is left
out, and said so. One thread unless THREADS says otherwise.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

THREADS = os.environ.get("THREADS", "1")
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GDL_NUM_THREADS")
ROUNDS, SECONDS = 5, 1.5


def mebibytes():
    """The greatest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def side(folder, workload, name):
    """A process of one side: a round of steps for each line that comes in."""
    import workloads.training as training

    step = training.WORKLOADS[workload][name](folder)
    before = mebibytes()
    step()
    step()
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        times, end = [], time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(json.dumps({"times": times, "before": before, "peak": mebibytes()}), flush=True)


def interpreter(name):
    if "escnn" in name:
        return os.environ.get("ESCNN_PYTHON", sys.executable)
    return os.environ.get("JAX_PYTHON", sys.executable) if "jax" in name else sys.executable


def started(folder, workload, name):
    """The process of a side, ready; None where it cannot be."""
    env = {**os.environ, **{variable: THREADS for variable in VARIABLES}}
    if THREADS == "1":
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    arguments = [interpreter(name), os.path.abspath(__file__), "--side", folder, workload, name]
    complaints = tempfile.TemporaryFile("w+")
    process = subprocess.Popen(arguments, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints)
    for line in process.stdout:
        if line == '"ready"\n':
            return process
    complaints.seek(0)
    why = (complaints.read().strip().splitlines() or ["it ended"])[-1]
    print(f"{workload}: {name} is left out: {why}", flush=True)
    return None


def main(folder, wanted):
    import workloads.training as training

    for workload in wanted or training.WORKLOADS:
        processes = {}
        for name in training.WORKLOADS[workload]:
            at = os.environ.get("LLVM_TRAIN", "") if "llvm" in name else folder
            process = at and started(at, workload, name)
            if process:
                processes[name] = process
        found = {name: [] for name in processes}
        for _ in range(ROUNDS):
            for name, process in processes.items():
                process.stdin.write("\n")
                process.stdin.flush()
                found[name].append(json.loads(process.stdout.readline()))
        for process in processes.values():
            process.stdin.close()
            process.wait()
        times = {name: [t for part in parts for t in part["times"]] for name, parts in found.items()}
        best = min((statistics.median(t) for name, t in times.items() if "gdlc" not in name), default=float("nan"))
        for name, t in times.items():
            middle, last = statistics.median(t), found[name][-1]
            memory = f"peak {last['peak']:6.0f} MiB, {last['peak'] - last['before']:6.0f} above what was there before the first step"
            print(f"{workload:8} {name:16} least {min(t) * 1e3:9.2f} ms  median {middle * 1e3:9.2f} ms  x{middle / best:5.2f} of the best peer  {memory}", flush=True)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:0] = [here, os.path.join(here, "..", "examples", "call_from", "python")]
    if sys.argv[1] == "--side":
        side(*sys.argv[2:])
    else:
        main(os.path.abspath(sys.argv[1]), sys.argv[2:])
