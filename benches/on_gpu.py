"""Libraries on a GPU beside PyTorch and e3nn, in one run: medians of calls timed by CUDA's events, f32 without TF32.

`python benches/on_gpu.py FOLDER [PROGRAM ...]`, with the libraries of `gdlc build benches/programs/NAME.gdl --target cuda -o FOLDER`.
Both sides have their arguments on the GPU already. Where the peer computes the same numbers, they are compared first.

`--products tf32|bf16|f16`: the libraries were built so; PyTorch may use TF32, or has all its tensors in bf16 or f16 (half the bytes, where ours stay f32).
"""

import argparse
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from gpu_model import Model, error, milliseconds

torch.backends.cudnn.benchmark = True


# what PyTorch's tensors are, and the difference that is allowed, relative to the greatest number
PEERS = {
    None: (torch.float32, 2e-5), "tf32": (torch.float32, 2.0**-9), "bf16": (torch.bfloat16, 2.0**-6), "f16": (torch.float16, 2.0**-9),
}  # fmt: skip
peer_type, tolerance = PEERS[None]


def as_peer(*tensors):
    return [t.to(peer_type) for t in tensors]


def ours(folder, name, **sizes):
    return Model(folder, name, sizes).instance("cuda:0")


def sgemm(folder):
    for n in (1024, 16384):
        gdlc = ours(folder, "sgemm", n=n, samples=1)
        x, w = as_peer(gdlc.given[0], gdlc.weights[0])
        peer = lambda x=x, w=w: x @ w.reshape(1024, 1024).T
        yield f"sgemm {n} x 1024 x 1024", gdlc, {"torch": peer}, 2 * n * 1024 * 1024, peer


def conv(folder):
    for batch in (8, 64):
        gdlc = ours(folder, "conv", batch=batch)
        x, w = as_peer(gdlc.given[0], torch.randn(64, 64, 3, 3, device="cuda:0"))
        first = x.permute(0, 3, 1, 2).contiguous()
        last, w_last = x.permute(0, 3, 1, 2), w.to(memory_format=torch.channels_last)
        call = lambda x, w: torch.relu(torch.nn.functional.conv2d(x, w, padding=1))
        peers = {"torch": lambda: call(first, w), "torch, channels last": lambda: call(last, w_last)}
        yield f"conv 3x3, 64 to 64, {batch} x 56 x 56, relu", gdlc, peers, 2 * batch * 56 * 56 * 64 * 64 * 9, None


def deepsets(folder):
    gdlc = ours(folder, "deepsets", n=262144, samples=64)
    index = gdlc.model.inputs[1].long().to("cuda:0")
    x, a, b = as_peer(gdlc.given[0], *torch.randn(2, 128, 128, device="cuda:0"))
    counts = torch.bincount(index, minlength=64).clamp(min=1).unsqueeze(1)

    def peer():
        mean = torch.zeros(64, 128, device="cuda:0", dtype=x.dtype).index_add_(0, index, x) / counts
        return torch.relu(x @ a + (mean.to(x.dtype) @ b)[index])

    yield "deep sets, 262144 elements, 64 sets, 128", gdlc, {"torch": peer}, 2 * 262144 * 128 * 128, None


def gcn(folder):
    gdlc = ours(folder, "gcn", n=100_000, m=1_600_000, samples=1)
    x = gdlc.given[0]
    table = {t["name"]: v.long().to("cuda:0") for t, v in zip(gdlc.model.model["inputs"][1:], gdlc.model.inputs[1:])}
    senders, receivers = table["Nodes.senders"], table["Nodes.receivers"]
    w, scale = torch.randn(128, 128, device="cuda:0"), torch.rand(1_600_000, device="cuda:0")
    crow = torch.searchsorted(receivers, torch.arange(100_001, device="cuda:0"))
    matrix = torch.sparse_csr_tensor(crow, senders, scale, (100_000, 100_000))
    peer = lambda: torch.sparse.mm(matrix, x @ w)
    yield "gcn, 100000 nodes, 1600000 edges, 128", gdlc, {"torch, cuSPARSE": peer}, 2 * (100_000 * 128 * 128 + 1_600_000 * 128), None


def tensor_product(folder):
    nodes, edges, mul = 1000, 20000, 32
    gdlc = ours(folder, "tensor_product", n=nodes, m=edges, samples=1)
    peers = {}
    try:
        from e3nn import o3

        irrep = lambda l: (l, (-1) ** l)
        paths = [(i, f, o) for o in range(3) for i in range(3) for f in range(abs(i - o), min(2, i + o) + 1) if (i + f + o) % 2 == 0]
        product = o3.TensorProduct(
            o3.Irreps([(mul, irrep(l)) for l in range(3)]), o3.Irreps([(1, irrep(l)) for l in range(3)]),
            o3.Irreps([(mul, irrep(o)) for _, _, o in paths]), [(i, f, k, "uvu", True) for k, (i, f, _) in enumerate(paths)],
            shared_weights=False, internal_weights=False,
        ).to("cuda:0")  # fmt: skip
        features, weights = torch.randn(nodes, mul * 9, device="cuda:0"), torch.randn(edges, product.weight_numel, device="cuda:0")
        source, to = torch.randint(0, nodes, (2, edges), device="cuda:0")
        filters = o3.spherical_harmonics([0, 1, 2], torch.randn(edges, 3, device="cuda:0"), True, "component")

        def peer():
            with torch.no_grad():
                messages = product(features[source], filters, weights)
                return torch.zeros(nodes, messages.shape[1], device="cuda:0").index_add_(0, to, messages)

        peers = {"e3nn": peer}
    except ImportError as e:
        print(f"no e3nn: {e}")
    yield "tensor product of 20000 edges, 32 x (0e+1o+2e)", gdlc, peers, None, None


PROGRAMS = {f.__name__: f for f in (sgemm, conv, deepsets, gcn, tensor_product)}


# those whose products are dense
DENSE = ["sgemm", "conv", "deepsets"]


def main(folder, wanted, products):
    global peer_type, tolerance
    peer_type, tolerance = PEERS[products]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = products == "tf32"
    print(torch.cuda.get_device_name(0), "torch", torch.__version__, f"products in {products or 'f32'}")
    for name in wanted or (DENSE if products else PROGRAMS):
        for label, gdlc, peers, flops, same in PROGRAMS[name](folder):
            gdlc.call()
            if same is not None:
                worst = error(gdlc.outputs[0], same().float().cpu())
                assert worst < tolerance, f"{label}: {worst:.1e}"
            times = {"gdlc": milliseconds(gdlc.call)}
            times |= {who: milliseconds(peer) for who, peer in peers.items()}
            times["gdlc again"] = milliseconds(gdlc.call)
            rate = f", {flops / times['gdlc'] / 1e9:.1f} TFLOP/s" if flops else ""
            text = ", ".join(f"{who} {1e3 * t:.1f} us" for who, t in times.items())
            print(f"{label}: {text}{rate}", flush=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("folder")
    options.add_argument("programs", nargs="*")
    options.add_argument("--products", choices=[kind for kind in PEERS if kind])
    options = options.parse_intermixed_args()
    main(options.folder, options.programs, options.products)
