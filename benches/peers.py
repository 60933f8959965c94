"""Times compiled models beside their peers, interleaved in one run on one machine.

    gdlc build benches/programs/sgemm.gdl -o out/bench   (conv, tensor_product, nequip alike)
    python benches/peers.py out/bench [sgemm|conv|tensor_product|nequip ...]

Prints the least and the median time of every side and the ratio of the medians to the best peer.
Needs numpy, torch, e3nn and onnxruntime; a side that is not there is left out and said so. One thread
unless THREADS says otherwise.
"""

import os
import statistics
import sys
import time

THREADS = int(os.environ.get("THREADS", "1"))
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GDL_NUM_THREADS"):
    os.environ[variable] = str(THREADS)

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples", "call_from", "python"))
from library import Library

ROUNDS, SECONDS = 5, 1.0


def torch_():
    import torch

    torch.set_num_threads(THREADS)
    return torch


def onnx_session(inputs, nodes, weights, output):
    """An ONNX Runtime session for a small graph."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(
        nodes, "g", [value(k, v.shape) for k, v in inputs.items()], [value(output, None)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)[0]


def sgemm(folder):
    """[1024, 1024] times [1024, 1024]."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((1024, 1024)).astype(np.float32) for _ in range(2))

    def gdlc():
        inputs = {"x": x, "Rows.index": np.zeros(1024, np.int32)}
        return Library(folder, "sgemm").bound(inputs, {"linear1.weight": w}, (1024, 1024))

    def torch_side():
        torch = torch_()
        a, b = torch.tensor(x), torch.tensor(w.T.copy())
        return lambda: (a @ b).numpy()

    def ort():
        from onnx import helper

        return onnx_session({"x": x}, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w.T.copy()}, "y")

    return 2 * 1024**3, {"gdlc": gdlc, "torch": torch_side, "numpy": lambda: lambda: x @ w.T, "onnxruntime": ort}


def conv(folder):
    """3x3, 64 -> 64 channels, batch 8, 56 x 56, bias and relu. Results compared in the layout [batch, h, w, channel]."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 56, 56, 64)).astype(np.float32)
    w = (rng.standard_normal((64, 64, 9)) / 24).astype(np.float32)
    bias = rng.standard_normal(64).astype(np.float32)
    planes, filters = np.ascontiguousarray(x.transpose(0, 3, 1, 2)), w.reshape(64, 64, 3, 3)

    def gdlc():
        return Library(folder, "conv").bound({"x": x}, {"linear1.weight": w, "linear1.bias": bias}, x.shape)

    def torch_side(layout):
        torch = torch_()
        a, b, c = (torch.tensor(t) for t in (planes, filters, bias))
        if layout == "nhwc":
            a, b = (t.to(memory_format=torch.channels_last) for t in (a, b))
        f = torch.nn.functional

        def run():
            with torch.no_grad():
                return f.relu(f.conv2d(a, b, c, padding=1)).permute(0, 2, 3, 1).numpy()

        return run

    def ort():
        from onnx import helper

        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["z"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["z"], ["y"]),
        ]
        run = onnx_session({"x": planes}, nodes, {"w": filters, "b": bias}, "y")
        return lambda: run().transpose(0, 2, 3, 1)

    sides = {"gdlc": gdlc, "torch nchw": lambda: torch_side("nchw"), "torch nhwc": lambda: torch_side("nhwc"), "onnxruntime": ort}
    return 2 * 8 * 56 * 56 * 64 * 64 * 9, sides


def tensor_product(folder):
    """Gather, tensor product, scatter on 1000 nodes and 20000 edges, 32 channels of l <= 2.

    gdlc computes harmonics and radial weights from positions in the same kernel; the peer is given both, and takes the
    11 paths with l <= 2 of the filter where gdlc takes all 14: the peer has less to do. Times are compared, not numbers
    (those are compared in the tests).
    """
    rng = np.random.default_rng(0)
    nodes, edges, mul = 1000, 20000, 32
    r = rng.uniform(-1, 1, (nodes, 3)).astype(np.float32)
    receivers = np.sort(rng.integers(0, nodes, edges)).astype(np.int32)
    senders = ((receivers + rng.integers(1, nodes, edges)) % nodes).astype(np.int32)
    x = rng.standard_normal((nodes, mul, 9)).astype(np.float32)

    def gdlc():
        inputs = {"x": x, "r": r, "Atoms.senders": senders, "Atoms.receivers": receivers, "Atoms.index": np.zeros(nodes, np.int32)}
        return Library(folder, "tensor_product").bound(inputs | {"x": x.reshape(len(x), -1)}, None, (len(x), x[0].size))

    def e3nn():
        torch = torch_()
        from e3nn import o3

        irrep = lambda l: (l, (-1) ** l)
        paths = [(i, f, o) for o in range(3) for i in range(3) for f in range(abs(i - o), min(2, i + o) + 1) if (i + f + o) % 2 == 0]
        product = o3.TensorProduct(
            o3.Irreps([(mul, irrep(l)) for l in range(3)]), o3.Irreps([(1, irrep(l)) for l in range(3)]),
            o3.Irreps([(mul, irrep(o)) for _, _, o in paths]), [(i, f, k, "uvu", True) for k, (i, f, _) in enumerate(paths)],
            shared_weights=False, internal_weights=False,
        )  # fmt: skip
        features, weights = torch.randn(nodes, mul * 9), torch.randn(edges, product.weight_numel)
        filters = o3.spherical_harmonics([0, 1, 2], torch.tensor(r[senders] - r[receivers]), True, "component")
        to, source = torch.tensor(receivers).long(), torch.tensor(senders).long()

        def run():
            with torch.no_grad():
                messages = product(features[source], filters, weights)
                return torch.zeros(nodes, messages.shape[1]).index_add_(0, to, messages)

        return run

    return None, {"gdlc": gdlc, "e3nn": e3nn}


def nequip(folder):
    """The energy of 100 atoms with about 50 neighbours each: three layers on 32 x (0e+1o+2e), radial MLPs 8-64-64, gates.

    gdlc runs programs/nequip.gdl; the peer is the same network of e3nn's own layers with the 11 paths of l <= 2 in the filter,
    where gdlc takes all 14. Weights are random on both sides; times are compared, not numbers.
    """
    rng = np.random.default_rng(0)
    atoms, edges, mul, radius = 100, 5086, 32, 5.0
    r = rng.uniform(-1.5, 1.5, (atoms, 3)).astype(np.float32)
    receivers = np.sort(rng.integers(0, atoms, edges)).astype(np.int32)
    senders = ((receivers + rng.integers(1, atoms, edges)) % atoms).astype(np.int32)
    species = rng.integers(0, 118, atoms).astype(np.int32)

    def gdlc():
        inputs = {"z": species, "r": r, "Atoms.senders": senders, "Atoms.receivers": receivers, "Atoms.index": np.zeros(atoms, np.int32)}
        return Library(folder, "nequip").bound(inputs, None, (1, 1))

    def e3nn():
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

        def run():
            with torch.no_grad():
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

        return run

    return None, {"gdlc": gdlc, "e3nn": e3nn}


WORKLOADS = {"sgemm": sgemm, "conv": conv, "tensor_product": tensor_product, "nequip": nequip}


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
