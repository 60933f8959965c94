"""The Python packages of libraries for GPUs: PyTorch, TVM-FFI and JAX with tensors on a GPU, beside the same library on the CPU.

`python tests/python_cuda.py FOLDER`, with the packages of `tests/on_gpu.sh build`: FOLDER/messages of the graph model of `python_package.py` (f64, --grad 2),
FOLDER/digits (--grad 1), FOLDER/atoms (f64, --grad 1). Without a GPU, or without a host's own CUDA, that host's part is left out with a word, and the exit status is 77 where nothing ran.

`--simulated LIBRARY` puts the GPU of `tests/simulated_gpu` in the place of CUDA's driver and, for PyTorch, of its runtime: two GPUs of compute capability 8.0 (packages
are built without `--arch`, as by `./test`), whose streams do nothing before somebody waits for them. PyTorch's own
kernels do not run there, so what needs them is for a GPU alone; the rest asks PyTorch for memory and copies only.
"""

import argparse
import concurrent.futures
import copy
import ctypes
import importlib.util
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time

from python_package import TABLES, refused

LEFT_OUT = 77


def close(found, expected, tolerance, what):
    """Equal relative to the greatest number."""
    scale = float(abs(expected).max())
    error = float(abs(found - expected).max()) / (scale or 1.0)
    assert error <= tolerance, f"{what}: {error}"


def milliseconds(call, wait, repeats=50):
    for _ in range(5):
        call()
    times = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        call()
        wait()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def torch_models(torch, messages, digits, simulated):
    """Outputs, gradients of all arguments, and gradients of gradients are those of the CPU; tables on either side; back again."""
    torch.manual_seed(0)
    model = messages.Messages()
    other = messages.Messages()
    other.load_state_dict(model.state_dict())
    other = other.to("cuda")
    assert all(p.is_cuda for p in other.parameters())
    x, e = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    tables = {name: torch.tensor(table) for name, table in TABLES.items()}

    def both(model, device, tables):
        """The outputs, their derivatives, and the derivatives of those, each weighted by numbers."""
        numbers = torch.Generator().manual_seed(1)
        weighting = lambda t: torch.randn(t.shape, dtype=t.dtype, generator=numbers).to(device)
        given = [x.to(device, copy=True).requires_grad_(), e.to(device, copy=True).requires_grad_()]
        y = model(*given, **tables, samples=2)
        given += model.parameters()
        first = torch.autograd.grad(y, given, weighting(y), create_graph=True)
        second = torch.autograd.grad(first, given, [weighting(g) for g in first])
        return [v.detach() for v in (y, *first, *second)]

    expected = both(model, "cpu", tables)
    on_gpu = {name: table.cuda() for name, table in tables.items()}
    for given in [tables, on_gpu, tables]:
        for k, (found, wanted) in enumerate(zip(both(other, "cuda", given), expected)):
            assert found.is_cuda
            close(found.cpu(), wanted, 1e-10, f"value {k}")
    jvp = torch.func.jvp(lambda x: other(x, e.cuda(), **tables, samples=2), (x.cuda(),), (x.cuda(),))
    wanted = torch.func.jvp(lambda x: model(x, e, **tables, samples=2), (x,), (x,))
    close(jvp[1].detach().cpu(), wanted[1].detach(), 1e-10, "forward mode")
    stacked = [torch.stack([t, 2 * t]).cuda() for t in (x, e)]
    batch = torch.func.vmap(lambda x, e: other(x, e, **tables, samples=2))(*stacked)
    close(batch[0].detach().cpu(), expected[0], 1e-10, "vmap")
    if not simulated:
        batch = torch.func.vmap(lambda x: other(x, e.cuda(), **tables, samples=2))(stacked[0])
        close(batch[0].detach().cpu(), expected[0], 1e-10, "vmap over one of two")
    twin = copy.deepcopy(other)
    buffer = io.BytesIO()
    torch.save(other, buffer)
    buffer.seek(0)
    for made, device in [(twin, "cuda:0"), (torch.load(buffer, weights_only=False), "cuda:0"), (twin, f"cuda:{torch.cuda.device_count() - 1}")]:
        found = made.to(device)(x.to(device), e.to(device), **tables, samples=2)
        assert found.device == torch.device(device)
        close(found.detach().cpu(), expected[0], 1e-10, f"a copy on {device}")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(lambda: other(x.cuda(), e.cuda(), **tables, samples=2).detach().cpu()) for _ in range(6)]
        for call in calls:
            close(call.result(), expected[0], 1e-10, "from another thread")
    back = other.to("cpu")
    assert torch.equal(back(x, e, **tables, samples=2), model(x, e, **tables, samples=2)), "moved there and back"
    print("torch: outputs, both derivatives, forward mode and vmap are those of the CPU; tables on the CPU and on the GPU; .to() and back")
    print("torch: copies, pickles, the last GPU, other threads")

    image = torch.randn(4, 8, 8, 1)
    net = digits.Digits()
    gpu = digits.Digits()
    gpu.load_state_dict(net.state_dict())
    gpu.cuda()
    close(gpu(image.cuda()).detach().cpu(), net(image).detach(), 1e-4, "digits")
    if not simulated:
        turned = image.cuda().transpose(1, 2)
        close(gpu(turned).detach().cpu(), net(image.transpose(1, 2)).detach(), 1e-4, "not row-major")
        print("torch: images that are not row-major")
    with torch.no_grad():
        first = next(iter(net.state_dict()))
        net.get_parameter(first).mul_(1.5)
        gpu.get_parameter(first).copy_(net.get_parameter(first))
    close(gpu(image.cuda()).detach().cpu(), net(image).detach(), 1e-4, "changed weights")
    whole = torch.compile(gpu, fullgraph=True, backend="aot_eager")
    assert torch.equal(whole(image.cuda()).cpu(), gpu(image.cuda()).cpu()), "compiled"
    print("torch: digits, changed weights, torch.compile(fullgraph=True)")
    return gpu, image.cuda()


def torch_training(torch, digits):
    """Steps of SGD on the GPU reach the weights that they reach on the CPU."""
    torch.manual_seed(1)
    image, weighting = torch.randn(4, 8, 8, 1), torch.randn(4, 10)
    net = digits.Digits()
    gpu = digits.Digits()
    gpu.load_state_dict(net.state_dict())
    gpu.cuda()
    for _ in range(3):
        for model, device in [(net, "cpu"), (gpu, "cuda")]:
            model.zero_grad(set_to_none=True)
            model(image.to(device)).backward(weighting.to(device))
            with torch.no_grad():
                for p in model.parameters():
                    assert p.grad.device == p.device
                    # PyTorch's own arithmetic has no kernels on a simulated GPU
                    p.copy_(p.cpu() - 0.01 * p.grad.cpu())
    for (name, a), b in zip(net.named_parameters(), gpu.parameters()):
        close(b.detach().cpu(), a.detach(), 1e-4, f"{name} after three steps")
    print("torch: three steps of training reach the weights of the CPU")


def torch_forces(torch, atoms):
    """Energies and forces of points, and the derivatives of a loss of both by the weights; pairs of edges are counted."""
    numbers = torch.Generator().manual_seed(2)
    r, z = 3 * torch.rand(9, 3, dtype=torch.float64, generator=numbers), torch.arange(9) % 4
    near = torch.cdist(r, r) < 3.0
    receivers, senders = torch.nonzero(near & ~torch.eye(9, dtype=torch.bool), as_tuple=True)
    net = atoms.Forces()
    gpu = atoms.Forces()
    gpu.load_state_dict(net.state_dict())
    gpu.cuda()

    def both(model, device):
        energy, force = model(z.to(device), r.to(device), senders=senders, receivers=receivers, samples=1)
        weighting = [torch.ones(t.shape, dtype=t.dtype).to(device) for t in (energy, force)]
        return [t.detach() for t in (energy, force, *torch.autograd.grad((energy, force), list(model.parameters()), weighting))]

    for k, (found, wanted) in enumerate(zip(both(gpu, "cuda"), both(net, "cpu"))):
        assert found.is_cuda and found.shape == wanted.shape
        close(found.cpu(), wanted, 1e-10, f"value {k}")
    print(f"torch: energies and forces of {len(senders)} edges, and the derivatives of both by the weights, are those of the CPU")


def torch_tables(torch, messages):
    """Tables that are copied on a stream of their own are read in its order, and many entries are summed as on the CPU."""
    numbers = torch.Generator().manual_seed(3)
    nodes, entries = 300, 2000
    x, e = (torch.randn(n, k, dtype=torch.float64, generator=numbers) for n, k in [(nodes, 3), (entries, 2)])
    tables = {name: torch.randint(0, nodes, (entries,), generator=numbers) for name in ["senders", "receivers"]}
    tables["receivers"] = tables["receivers"].sort().values
    tables["index"] = torch.arange(nodes) // 100
    net = messages.Messages()
    gpu = messages.Messages()
    gpu.load_state_dict(net.state_dict())
    gpu.cuda()

    def gradients(model, device, tables):
        given = [x.to(device, copy=True, non_blocking=True).requires_grad_(), e.to(device, non_blocking=True), *model.parameters()]
        y = model(*given[:2], **tables, samples=3)
        found = torch.autograd.grad(y, [given[0], *given[2:]], torch.ones(y.shape, dtype=y.dtype).to(device, non_blocking=True))
        return [v.detach().cpu() for v in (y, *found)]

    wanted = gradients(net, "cpu", tables)
    with torch.cuda.stream(torch.cuda.Stream()):
        for given in [tables, {name: table.to("cuda", non_blocking=True) for name, table in tables.items()}]:
            for k, (found, expected) in enumerate(zip(gradients(gpu, "cuda", given), wanted)):
                close(found, expected, 1e-10, f"value {k} of many entries")
    print(f"torch: tables of {entries} entries on a stream of their own, on the CPU and on the GPU")


def torch_streams(torch, gpu, image, messages, simulated):
    """Other streams, memory that does not grow, graphs."""
    gpu.requires_grad_(False)
    expected = gpu(image).cpu()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        if simulated:
            # whatever is not on this stream finds nothing there: its work begins when somebody waits for it
            late = image.cpu().to("cuda", non_blocking=True)
        else:
            slow = torch.randn(4096, 4096, device="cuda")
            for _ in range(20):
                slow = slow @ slow * 1e-4
            late = image + 0 * slow.sum()
        found = gpu(late)
        found = found.cpu()
    assert torch.equal(found, expected), "in the order of the current stream"
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(50):
        gpu(image)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before, "a call leaves nothing behind"
    model = messages.Messages().cuda().requires_grad_(False)
    x, e = torch.randn(5, 3, dtype=torch.float64).cuda(), torch.randn(7, 2, dtype=torch.float64).cuda()
    tables = {name: torch.tensor(table) for name, table in TABLES.items()}
    for what, call, given in [("digits", gpu, image), ("messages", lambda x: model(x, e, **tables, samples=2), x)]:
        want = call(given).cpu()
        torch.cuda.synchronize()
        graph, place = torch.cuda.CUDAGraph(), given.clone()
        with torch.cuda.graph(graph):
            made = call(place)
        for factor in [1.0, 2.0]:
            place.copy_(factor * given.cpu())
            made.copy_(torch.full(made.shape, float("nan"), dtype=made.dtype))
            graph.replay()
            torch.cuda.synchronize()
            want = want if factor == 1.0 else call(place).cpu()
            assert torch.equal(made.cpu(), want), f"{what}: a replayed graph"
    print("torch: the current stream, no memory left behind, graphs are replayed on other numbers")


def torch_wrong(torch, messages, gpu, image):
    model = messages.Messages()
    x, e = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    tables = {name: torch.tensor(table) for name, table in TABLES.items()}
    cuda = {name: table.cuda() for name, table in tables.items()}
    moved = messages.Messages().cuda()
    cases = [
        ("is on cpu, and `", lambda: moved(x, e.cuda(), **tables, samples=2)),
        ("on cuda:0: move it with `.to(\"cuda:0\")`", lambda: model(x.cuda(), e.cuda(), **tables)),
        ("is on cuda:0, and this call computes on the CPU", lambda: model(x, e, **cuda, samples=2)),
        ("`x` is float32, and needs float64", lambda: moved(x.float().cuda(), e.cuda(), **tables)),
        ("element 0 is 5, outside 0..5", lambda: moved(x.cuda(), e.cuda(), **{**cuda, "senders": (tables["senders"] + 4).cuda()}, samples=2)),
    ]
    if torch.cuda.device_count() > 1:
        cases.append(("is on cuda:1, and", lambda: moved(x.cuda(), e.to("cuda:1"), **tables)))
    refused("torch", cases)

    def captured():
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            moved.requires_grad_(False)(x_gpu, e_gpu, **cuda, samples=2)

    x_gpu, e_gpu = x.cuda(), e.cuda()
    refused("torch, a capture with tables on the GPU", [("keep them on the CPU", captured)])


def tvm(torch, messages):
    """The library as a module of TVM-FFI, on tensors of PyTorch."""
    if importlib.util.find_spec("tvm_ffi") is None:
        return print("TVM-FFI is not installed: its part was left out")
    import tvm_ffi

    model = messages.torch.Messages().cuda().requires_grad_(False)
    x, e = torch.randn(5, 3, dtype=torch.float64).cuda(), torch.randn(7, 2, dtype=torch.float64).cuda()
    tables = {name: torch.tensor(table) for name, table in TABLES.items()}
    given = {"x": x, "e": e, **{f"G.{name}": table for name, table in tables.items()}}
    inputs = [given[a.name] for a in messages.MODEL.inputs]
    y = torch.full((2, 2), float("nan"), dtype=torch.float64).cuda()
    library = os.path.join(os.path.dirname(messages.__file__), "libmessages.so")
    tvm_ffi.load_module(library)["messages"](*inputs, *(w.detach() for w in model._weights()), y)
    assert torch.equal(y.cpu(), model(x, e, **tables, samples=2).cpu())
    print(f"tvm_ffi {tvm_ffi.__version__}: the bits that PyTorch's operator gives")


def on_torch(simulated):
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: its part was left out")
        return False
    import torch

    if not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU: its part was left out")
        return False
    import atoms.torch
    import digits.torch
    import messages.torch

    assert messages.torch_operators.SHIM, "CUDA needs the stable interface"
    print(f"torch {torch.__version__} on {torch.cuda.get_device_name(0)}")
    gpu, image = torch_models(torch, messages.torch, digits.torch, simulated)
    torch_training(torch, digits.torch)
    torch_forces(torch, atoms.torch)
    torch_tables(torch, messages.torch)
    if not os.environ.get("PYTORCH_NO_CUDA_MEMORY_CACHING"):
        torch_streams(torch, gpu, image, messages.torch, simulated)
    torch_wrong(torch, messages.torch, gpu, image)
    tvm(torch, messages)
    if simulated:
        return True
    large = torch.randn(256, 8, 8, 1, device="cuda")
    wait = torch.cuda.synchronize
    print(f"torch: digits of 256 images: {1e3 * milliseconds(lambda: gpu(large), wait):.1f} us a call, of 4: {1e3 * milliseconds(lambda: gpu(image), wait):.1f} us")
    return True


def on_jax(simulated):
    if importlib.util.find_spec("jax") is None:
        print("JAX is not installed: its part was left out")
        return False
    import jax

    try:
        gpu, cpu = jax.devices("cuda")[0], jax.devices("cpu")[0]
    except RuntimeError as why:
        print(f"JAX {jax.__version__} sees no GPU: its part was left out: {str(why).splitlines()[0]}")
        return False
    import numpy as np

    import digits.jax
    import messages.jax

    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(1)
    x, e = rng.normal(size=(5, 3)), rng.normal(size=(7, 2))
    tables = {name: np.array(table) for name, table in TABLES.items()}
    with jax.default_device(cpu):
        params, weights = messages.jax.initial(jax.random.key(0)), digits.jax.initial(jax.random.key(1))
    f = lambda params, x, e: messages.jax.messages(params, x, e, **tables, samples=2)
    like = lambda tree: jax.tree.map(lambda a: rng.normal(size=a.shape), tree)

    def same(what, g, *given):
        """Under jit on the GPU and on the CPU."""
        found, expected = [jax.jit(g)(*jax.device_put(given, device)) for device in (gpu, cpu)]
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
            assert a.devices() == {gpu}, what
            close(np.asarray(a), np.asarray(b), 1e-10, what)
        return expected

    def pulled(params, x, e, change):
        return jax.vjp(f, params, x, e)[1](change)

    y = same("value", f, params, x, e)
    first = same("vjp", pulled, params, x, e, like(y))
    same("jvp", lambda given, change: jax.jvp(f, given, change)[1], (params, x, e), like((params, x, e)))
    same("vjp of vjp", lambda given, change: jax.vjp(pulled, *given)[1](change), (params, x, e, like(y)), like(first))
    same("vmap", jax.vmap(f, in_axes=(None, 0, 0)), params, np.stack([x, 2 * x]), np.stack([e, -e]))
    if not simulated:
        total = lambda *given: (f(*given) ** 2).sum()
        same("gradient", jax.grad(total, argnums=(0, 1, 2)), params, x, e)
        same("Hessian", jax.hessian(total, argnums=1), params, x, e)
        same("vmap over one of two", jax.vmap(total, in_axes=(None, 0, None)), params, np.stack([x, 2 * x]), e)
    image = rng.normal(size=(4, 8, 8, 1)).astype("float32")
    found, expected = [jax.jit(digits.jax.digits)(*jax.device_put((weights, image), d)) for d in (gpu, cpu)]
    close(np.asarray(found), np.asarray(expected), 1e-4, "digits")
    wrong = {**tables, "senders": tables["senders"] + 4}
    bad = lambda: jax.block_until_ready(messages.jax.messages(*jax.device_put((params, x, e), gpu), **wrong, samples=2))
    refused("jax", [("outside 0..5", bad)])
    print(f"JAX {jax.__version__} on {gpu.device_kind}: value, vjp, jvp, vjp of vjp and vmap under jit are those of the CPU; a wrong index is named")
    return True


def simulate(library):
    """Puts the simulated GPU where PyTorch, XLA and libraries look for CUDA."""
    gpu = ctypes.CDLL(os.path.abspath(library), mode=ctypes.RTLD_GLOBAL)
    for name, value in [("devices", 2), ("lazy", 1), ("context", 0), ("blocks", int(os.environ.get("GDL_TEST_BLOCKS", "0")))]:
        assert gpu.simulated_set(name.encode(), ctypes.c_int64(value))
    if importlib.util.find_spec("jax") is not None:
        from jax._src import hardware_utils, lib

        # where XLA looks for an assembler: not the real one, where that is installed
        lib.cuda_path = os.environ["LD_LIBRARY_PATH"]
        # JAX looks for the kernel's driver before it asks CUDA's
        hardware_utils.has_visible_nvidia_gpu = lambda: True


# What XLA asks to assemble the few kernels that it makes itself: machine code of a simulated GPU is the text, behind the first letters of a real one.
ASSEMBLER = """#!/bin/sh
if [ "$1" = --version ]; then echo "Cuda compilation tools, release 13.0, V13.0.0"; exit; fi
while [ $# -gt 0 ]; do
    case $1 in
    -o) to=$2; shift ;;
    -*) ;;
    *) from=$1 ;;
    esac
    shift
done
{ printf '\\177ELF'; cat "$from"; printf '\\0'; } > "$to"
"""


def in_simulation(library, host, names, more):
    """Starts again for one host and more settings, where the loader finds the simulated GPU by these names of CUDA's libraries, and nothing is taken in advance."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            os.symlink(os.path.abspath(library), os.path.join(folder, name))
        os.mkdir(os.path.join(folder, "bin"))
        for name in ["ptxas", "nvlink"]:
            with open(os.open(os.path.join(folder, "bin", name), os.O_CREAT | os.O_WRONLY, 0o755), "w") as file:
                file.write(ASSEMBLER)
        settings = {
            "PATH": os.path.join(folder, "bin") + os.pathsep + os.environ["PATH"],
            "LD_LIBRARY_PATH": folder,
            "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **more,
        }
        return subprocess.run([sys.executable, *sys.argv, "--host", host], env={**os.environ, **settings}, check=False).returncode


# What each host opens of CUDA; PyTorch has libraries of its own in the place of the others (`torch_without_cuda.py`).
HOSTS = {
    "torch": (on_torch, ["libcuda.so.1"]),
    "jax": (on_jax, ["libcuda.so.1", "libcudart.so.13", "libnvidia-ml.so.1", "libcudnn.so.9"]),
}


# PyTorch again with an allocation of the driver for each tensor, whose bounds are watched then (its graphs want its own allocator); and with few blocks, which
# go round.
RUNS = [("torch", {}), ("torch", {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "GDL_TEST_BLOCKS": "2"}), ("jax", {})]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--simulated", metavar="LIBRARY")
    parser.add_argument("--host", choices=HOSTS, help="this one alone")
    given = parser.parse_args()
    if given.simulated and not given.host:
        statuses = [in_simulation(given.simulated, host, HOSTS[host][1], more) for host, more in RUNS]
        sys.exit(next((s for s in statuses if s not in (0, LEFT_OUT)), min(statuses)))
    for name in ["messages", "digits", "atoms"]:
        sys.path.insert(0, os.path.join(os.path.abspath(given.folder), name))
    if given.simulated:
        simulate(given.simulated)
    ran = [part(bool(given.simulated)) for host, (part, _) in HOSTS.items() if given.host in (None, host)]
    sys.exit(0 if any(ran) else LEFT_OUT)


if __name__ == "__main__":
    main()
