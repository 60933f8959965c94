"""Libraries built with `--target cuda`, on a GPU: each model against the same library on the CPU, and timed with CUDA's events.

`python tests/on_gpu.py FOLDER [--time]` takes every library of a folder (`gdlc build f.gdl --target cuda -o FOLDER`), with its derivatives.
Sums that are cut over threads have another order than on the CPU, so the numbers agree up to rounding; where they agree to the bit it says so.

With `--products KIND --exact FOLDER` the libraries were built with `--products KIND`, and FOLDER has the same programs in f64: each number is within the
bound that follows from rounding both factors of every product, and beyond what f32 alone would make of it.
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


# half the distance of neighbours at 1: of factors that tensor cores multiply
UNIT = {"tf32": 2.0**-11, "bf16": 2.0**-8, "f16": 2.0**-11}
# terms of a sum, at most
TERMS = 4096


def bounded(folder, exact, name, products, sizes, device="cuda:0"):
    """A model whose outputs are sums of products of an input with a weight, and what relu makes of these: how far the sums are from those in f64,
    in units of the sum of absolute products. That sum is the same model of absolute values."""
    model, reference = Model(folder, name, sizes), Model(exact, name, sizes)
    magnitude = Model(exact, name, sizes)
    for narrow, wide, positive in zip(model.inputs + model.weights, reference.inputs + reference.weights, magnitude.inputs + magnitude.weights):
        wide.copy_(narrow)
        positive.copy_(narrow.abs())
    found, *others = [m.instance(where) for m, where in [(model, device), (reference, "cpu"), (magnitude, "cpu")]]
    for instance in (found, *others):
        instance.call()
    torch.cuda.synchronize() if device != "cpu" else None
    unit, worst = UNIT[products], 0.0
    for y, expected, most in zip(found.outputs, *(o.outputs for o in others)):
        error, rest = (y.cpu().double() - expected).abs(), most > 0
        assert (error[~rest] == 0).all(), f"{name}: a sum of zeros"
        worst = max(worst, (error[rest] / most[rest]).max().item())
    bound = 2 * unit + unit**2 + TERMS * 2.0**-24
    assert worst <= bound, f"{name}: {worst:.1e} of the absolute sum, above {bound:.1e}"
    assert worst >= unit / 100, f"{name}: {worst:.1e}: factors were not rounded to {products}"
    return f"error {worst:.1e} of the absolute sums, bound {bound:.1e}"


SIZES = {"n": 64, "m": 512, "batch": 4, "samples": 8}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("folder")
    options.add_argument("--size", default="", help="NAME:n=64,m=512;..")
    options.add_argument("--time", action="store_true")
    options.add_argument("--products", choices=UNIT)
    options.add_argument("--exact", metavar="FOLDER", help="the same programs in f64")
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
            if options.products:
                how = bounded(options.folder, options.exact, name, options.products, {**SIZES, **given.get(name, {})})
                print(f"{name:24}: {how}", flush=True)
                continue
            gpu, how = compare(options.folder, name, {**SIZES, **given.get(name.split(".")[0], {})})
            times = f", {1e3 * milliseconds(gpu.call):9.1f} us a call, {1e3 * milliseconds(gpu.replay):9.1f} us as a graph"
            time = times if options.time else ""
            print(f"{name:24} {gpu.model.sizes}: {how}{time}", flush=True)
        except Exception as e:  # every model is tried
            failed.append(name)
            print(f"{name:24} FAILED: {e}", flush=True)
    agree = f"are within the bounds of {options.products}" if options.products else "agree with the CPU"
    print(f"{len(names) - len(failed)} of {len(names)} models {agree} on {torch.cuda.get_device_name(0)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
