"""The Python packages of libraries for GPUs, on a GPU: PyTorch and JAX beside the same library on the CPU.

`python tests/python_cuda.py FOLDER`, with the packages of `tests/on_gpu.sh build`: FOLDER/messages of the graph model of `python_package.py` (f64, --grad 2),
FOLDER/digits (--grad 1). Without a GPU, or without a host's own CUDA, that host's part is left out with a word, and the exit status is 77 where nothing ran.
"""

import importlib.util
import os
import statistics
import sys
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


def torch_models(torch, messages, digits):
    """Outputs, gradients of all arguments, and gradients of gradients are those of the CPU; tables on either side; back again."""
    torch.manual_seed(0)
    model = messages.Messages()
    other = messages.Messages().to("cuda")
    other.load_state_dict(model.state_dict())
    x, e = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    tables = {name: torch.tensor(table) for name, table in TABLES.items()}

    def both(model, x, e, tables):
        x, e = x.clone().requires_grad_(), e.clone().requires_grad_()
        given = [x, e, *model.parameters()]
        y = model(x, e, **tables, samples=2)
        first = torch.autograd.grad(y.square().sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), given)
        return [v.detach() for v in (y, *first, *second)]

    expected = both(model, x, e, tables)
    on_gpu = {name: table.cuda() for name, table in tables.items()}
    for given in [tables, on_gpu, tables]:
        for k, (found, wanted) in enumerate(zip(both(other, x.cuda(), e.cuda(), given), expected)):
            assert found.is_cuda
            close(found.cpu(), wanted, 1e-10, f"value {k}")
    jvp = torch.func.jvp(lambda x: other(x, e.cuda(), **tables, samples=2), (x.cuda(),), (x.cuda(),))
    wanted = torch.func.jvp(lambda x: model(x, e, **tables, samples=2), (x,), (x,))
    close(jvp[1].detach().cpu(), wanted[1].detach(), 1e-10, "forward mode")
    batch = torch.func.vmap(lambda x: other(x, e.cuda(), **tables, samples=2))(torch.stack([x, 2 * x]).cuda())
    close(batch[0].detach().cpu(), expected[0], 1e-10, "vmap")
    back = other.to("cpu")
    assert torch.equal(back(x, e, **tables, samples=2), model(x, e, **tables, samples=2)), "moved there and back"
    print("torch: outputs, both derivatives, forward mode and vmap are those of the CPU; tables on the CPU and on the GPU; .to() and back")

    image = torch.randn(4, 8, 8, 1)
    net = digits.Digits()
    gpu = digits.Digits().cuda()
    gpu.load_state_dict(net.state_dict())
    close(gpu(image.cuda()).detach().cpu(), net(image).detach(), 1e-4, "digits")
    turned = image.cuda().transpose(1, 2)
    close(gpu(turned).detach().cpu(), net(image.transpose(1, 2)).detach(), 1e-4, "not row-major")
    with torch.no_grad():
        gpu.get_parameter(next(iter(gpu.state_dict()))).data.mul_(1.5)
        net.get_parameter(next(iter(net.state_dict()))).data.mul_(1.5)
    close(gpu(image.cuda()).detach().cpu(), net(image).detach(), 1e-4, "changed weights")
    whole = torch.compile(gpu, fullgraph=True, backend="aot_eager")
    assert torch.equal(whole(image.cuda()), gpu(image.cuda())), "compiled"
    print("torch: digits, images that are not row-major, changed weights, torch.compile(fullgraph=True)")
    return gpu, image.cuda()


def torch_streams(torch, gpu, image, messages):
    """Other streams, memory that does not grow, graphs."""
    gpu.requires_grad_(False)
    expected = gpu(image)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        slow = torch.randn(4096, 4096, device="cuda")
        for _ in range(20):
            slow = slow @ slow * 1e-4
        late = image + 0 * slow.sum()
        found = gpu(late)
    side.synchronize()
    assert torch.equal(found, expected), "in the order of the current stream"
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(50):
        gpu(image)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before, "a call leaves nothing behind"
    model = messages.Messages().cuda().requires_grad_(False)
    x, e = torch.randn(5, 3, dtype=torch.float64, device="cuda"), torch.randn(7, 2, dtype=torch.float64, device="cuda")
    tables = {name: torch.tensor(table) for name, table in TABLES.items()}
    for what, call, given in [("digits", gpu, image), ("messages", lambda x: model(x, e, **tables, samples=2), x)]:
        want = call(given)
        torch.cuda.synchronize()
        graph, place = torch.cuda.CUDAGraph(), given.clone()
        with torch.cuda.graph(graph):
            made = call(place)
        place.copy_(given)
        made.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(made, want), f"{what}: a replayed graph"
    print("torch: the current stream, no memory left behind, graphs are replayed")


def torch_wrong(torch, messages, gpu, image):
    model = messages.Messages()
    x, e = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    tables = {name: torch.tensor(table) for name, table in TABLES.items()}
    cuda = {name: table.cuda() for name, table in tables.items()}
    moved = messages.Messages().cuda()
    cases = [
        ("is on cpu, and `", lambda: moved(x, e.cuda(), **tables)),
        ("on cuda:0: move it with `.to(\"cuda:0\")`", lambda: model(x.cuda(), e.cuda(), **tables)),
        ("is on cuda:0, and this call computes on the CPU", lambda: model(x, e, **cuda)),
        ("`x` is float32, and needs float64", lambda: moved(x.float().cuda(), e.cuda(), **tables)),
        ("element 0 is 5, outside 0..5", lambda: moved(x.cuda(), e.cuda(), **{**cuda, "senders": cuda["senders"] + 4})),
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
    x, e = torch.randn(5, 3, dtype=torch.float64, device="cuda"), torch.randn(7, 2, dtype=torch.float64, device="cuda")
    tables = {name: torch.tensor(table) for name, table in TABLES.items()}
    given = {"x": x, "e": e, **{f"G.{name}": table for name, table in tables.items()}}
    inputs = [given[a.name] for a in messages.MODEL.inputs]
    y = torch.full((2, 2), float("nan"), dtype=torch.float64, device="cuda")
    library = os.path.join(os.path.dirname(messages.__file__), "libmessages.so")
    tvm_ffi.load_module(library)["messages"](*inputs, *(w.detach() for w in model._weights()), y)
    assert torch.equal(y, model(x, e, **tables, samples=2))
    print(f"tvm_ffi {tvm_ffi.__version__}: the bits that PyTorch's operator gives")


def on_torch():
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: its part was left out")
        return False
    import torch

    if not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU: its part was left out")
        return False
    import digits.torch
    import messages.torch

    assert messages.torch_operators.SHIM, "CUDA needs the stable interface"
    print(f"torch {torch.__version__} on {torch.cuda.get_device_name(0)}")
    gpu, image = torch_models(torch, messages.torch, digits.torch)
    torch_streams(torch, gpu, image, messages.torch)
    torch_wrong(torch, messages.torch, gpu, image)
    tvm(torch, messages)
    large = torch.randn(256, 8, 8, 1, device="cuda")
    wait = torch.cuda.synchronize
    print(f"torch: digits of 256 images: {1e3 * milliseconds(lambda: gpu(large), wait):.1f} us a call, of 4: {1e3 * milliseconds(lambda: gpu(image), wait):.1f} us")
    return True


def on_jax():
    if importlib.util.find_spec("jax") is None:
        print("JAX is not installed: its part was left out")
        return False
    import jax

    try:
        gpu = jax.devices("cuda")[0]
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
    params = messages.jax.initial(jax.random.key(0))
    f = lambda params, x, e: (messages.jax.messages(params, x, e, **tables, samples=2) ** 2).sum()
    kinds = {"value": f, "gradient": jax.grad(f, argnums=(0, 1, 2)), "Hessian": jax.hessian(f, argnums=1), "batch": jax.vmap(f, in_axes=(None, 0, None))}
    for what, g in kinds.items():
        point = np.stack([x, 2 * x]) if what == "batch" else x
        found, expected = [jax.jit(g)(*jax.device_put((params, point, e), d)) for d in (gpu, jax.devices("cpu")[0])]
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
            assert a.devices() == {gpu}
            close(np.asarray(a), np.asarray(b), 1e-10, what)
    weights = digits.jax.initial(jax.random.key(1))
    image = rng.normal(size=(4, 8, 8, 1)).astype("float32")
    found, expected = [jax.jit(digits.jax.digits)(*jax.device_put((weights, image), d)) for d in (gpu, jax.devices("cpu")[0])]
    close(np.asarray(found), np.asarray(expected), 1e-4, "digits")
    wrong = {**tables, "senders": tables["senders"] + 4}
    bad = lambda: jax.block_until_ready(messages.jax.messages(*jax.device_put((params, x, e), gpu), **wrong, samples=2))
    refused("jax", [("outside 0..5", bad)])
    print(f"JAX {jax.__version__} on {gpu.device_kind}: value, gradient, Hessian and vmap under jit are those of the CPU")
    return True


def main(folder):
    for name in ["messages", "digits"]:
        sys.path.insert(0, os.path.join(os.path.abspath(folder), name))
    ran = [part() for part in (on_torch, on_jax)]
    sys.exit(0 if any(ran) else LEFT_OUT)


if __name__ == "__main__":
    main(sys.argv[1])
