"""Libraries built with `--target cuda`, on a GPU: each model against the same library on the CPU, and timed with CUDA's events.

`python tests/on_gpu.py FOLDER [--time]` takes every library of a folder (`gdlc build f.gdl --target cuda -o FOLDER`), with its derivatives.
Sums that are cut over threads have another order than on the CPU, so the numbers agree up to rounding; where they agree to the bit it says so.
Needs torch (for memory, streams and events) and a GPU; a missing one is a failure, for these tests run only when they are asked for.
"""

import argparse
import os
import sys

import torch

from gpu_model import Model, error, milliseconds, models, pointers

# relative to the greatest number of an output; of sums of up to a few thousand terms in another order
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
# Where a derivative jumps (relu, max), sums in another order may fall on the other side: so many elements may be off.
JUMPS = 1e-5


def replayed(gpu, first):
    """A call captured in a graph computes the same bits when it is replayed: nothing is allocated and nothing waits."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    given, gpu.context.stream = gpu.context.stream, stream.cuda_stream
    with torch.cuda.graph(graph, stream=stream):
        gpu.call()
    gpu.context.stream = given
    for g in gpu.outputs:
        g.fill_(float("nan"))
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(first, gpu.outputs)), "a replayed graph gives the bits that call gives"
    gpu.replay = graph.replay


def refused(gpu):
    """What is on the wrong device is named."""
    kept, gpu.inputs = gpu.inputs, pointers([x.cpu() for x in gpu.given])
    try:
        gpu.call()
    except RuntimeError as e:
        assert "must be on CUDA" in str(e), e
    else:
        raise AssertionError("tensors of the CPU were taken")
    gpu.inputs = kept


def index_out_of_range(folder, name, sizes):
    """Ends the CUDA context: for a process of its own."""
    gpu = Model(folder, name, sizes).instance("cuda:0")
    indices = [k for k, t in enumerate(gpu.model.model["inputs"]) if t.get("given_at") == "call"]
    assert indices, f"{name} takes no index at a call"
    gpu.given[indices[0]].fill_(1 << 30)
    gpu.call()
    try:
        torch.cuda.synchronize()
    except RuntimeError as e:
        return print(f"{name}: an index out of range stops the GPU: {str(e).splitlines()[0]}")
    raise AssertionError("an index out of range was taken")


def jumps(found, expected, tolerance):
    """The part of the elements that differ by more than a tolerance; not a number counts as different."""
    if expected.numel() == 0:
        return 0.0
    far = ~((found - expected).abs() <= tolerance * expected.abs().max())
    return far.double().mean().item()


def compare(folder, name, sizes):
    """The model on both devices, and in words how they differ, relative to the greatest number of an output."""
    model = Model(folder, name, sizes)
    cpu, gpu = model.instance("cpu"), model.instance("cuda:0")
    cpu.call()
    gpu.call()
    torch.cuda.synchronize()
    compared = [(g.cpu(), c) for g, c in zip(gpu.outputs, cpu.outputs)]
    assert all(torch.isfinite(c).all() for _, c in compared), f"{name}: the expected result is finite"
    worst = max(error(g, c) for g, c in compared)
    same = all(torch.equal(g, c) for g, c in compared)
    tolerance = TOLERANCE[model.model["dtype"]]
    off = max(jumps(g, c, tolerance) for g, c in compared)
    first = [g.clone() for g in gpu.outputs]
    for g in gpu.outputs:
        g.fill_(float("nan"))
    if gpu.runs:
        gpu.run()
        assert all(torch.equal(a, b) for a, b in zip(first, gpu.outputs)), "run gives the bits that call gives"
    replayed(gpu, first)
    assert off <= (JUMPS if "." in name else 0), f"{name}: relative error {worst:.1e}, a part {off:.1e} of an output beyond {tolerance}"
    refused(gpu)
    return gpu, "the same bits" if same else f"error {worst:.1e}" + (f", beyond {tolerance} in {off:.1e} of an output" if off else "")


SIZES = {"n": 64, "m": 512, "batch": 4, "samples": 8}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("folder")
    options.add_argument("--size", default="", help="NAME:n=64,m=512;..")
    options.add_argument("--time", action="store_true")
    options.add_argument("--out-of-range", metavar="NAME", help="give this model an index out of range, and nothing else")
    options = options.parse_args()
    given = {}
    for part in filter(None, options.size.split(";")):
        name, sizes = part.split(":")
        given[name] = {k: int(v) for k, v in (s.split("=") for s in sizes.split(","))}
    torch.cuda.init()
    torch.zeros(1, device="cuda:0")
    if options.out_of_range:
        name = options.out_of_range
        return index_out_of_range(options.folder, name, {**SIZES, **given.get(name, {})})
    failed = []
    names = models(options.folder)
    for name in names:
        try:
            gpu, how = compare(options.folder, name, {**SIZES, **given.get(name.split(".")[0], {})})
            times = f", {1e3 * milliseconds(gpu.call):9.1f} us a call, {1e3 * milliseconds(gpu.replay):9.1f} us as a graph"
            time = times if options.time else ""
            print(f"{name:24} {gpu.model.sizes}: {how}{time}", flush=True)
        except Exception as e:  # every model is tried
            failed.append(name)
            print(f"{name:24} FAILED: {e}", flush=True)
    print(f"{len(names) - len(failed)} of {len(names)} models agree with the CPU on {torch.cuda.get_device_name(0)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
