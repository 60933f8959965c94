"""The package of a model on PyTorch. `python_package.py` installs it and calls `check`."""

import copy
import importlib
import os
import pickle
import sys
import tempfile
import threading
import weakref

import torch
import torch.autograd.forward_ad as forward_ad
import torch.utils.checkpoint
from torch.fx.experimental.proxy_tensor import make_fx

from python_package import TABLES, refused


def arguments():
    torch.manual_seed(0)
    x, e = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in [(5, 3), (7, 2)])
    return x, e, {name: torch.tensor(table) for name, table in TABLES.items()}


def in_order(package, x, e, tables):
    """What the operator takes: all inputs, and the run-time sizes."""
    given = {"x": x, "e": e, **{f"G.{name}": table for name, table in tables.items()}}
    inputs = [given[a.name] for a in package.MODEL.inputs]
    return inputs, package.MODEL.solve([i.shape for i in inputs], {"samples": 2})


def derivatives(model, x, e, tables):
    def by_all(x, e, *weights):
        return torch.func.functional_call(model, dict(zip(dict(model.named_parameters()), weights)), (x, e), tables)

    variables = (x, e, *model.parameters())
    assert torch.autograd.gradcheck(by_all, variables, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(by_all, variables, check_fwd_over_rev=True)
    print("messages.torch: gradcheck and gradgradcheck by inputs and weights, both modes")

    weights = [w.detach() for w in model.parameters()]
    f = lambda x: by_all(x, e.detach(), *weights).square().sum()
    point, fn = x.detach(), torch.func

    def gradient(x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(f(x), x)[0]

    steps = torch.eye(15, dtype=torch.float64).reshape(15, 5, 3) * 1e-5
    expected = torch.stack([(gradient(point + d) - gradient(point - d)) / 2e-5 for d in steps]).reshape(5, 3, 5, 3)
    modes = {"forward": fn.jacfwd, "reverse": fn.jacrev}
    for a, outer in modes.items():
        for b, inner in modes.items():
            error = (outer(inner(f))(point) - expected).abs().max() / expected.abs().max()
            assert error < 1e-6, f"{a} over {b}: {error}"
    batch = torch.randn(3, 5, 3, dtype=torch.float64)
    apart = torch.stack([gradient(x) for x in batch])
    assert torch.allclose(fn.vmap(fn.grad(f))(batch), apart, rtol=1e-12)
    assert torch.allclose(fn.grad(lambda batch: fn.vmap(f)(batch).sum())(batch), apart, rtol=1e-12)
    print("messages.torch: the four Hessians of torch.func are those of differences; vmap of grad, grad of vmap")


def by_hand(model, x, e, tables):
    """The model written in PyTorch, on the same weights."""
    weights = dict(model.named_parameters())
    linear = lambda name, *x: torch.nn.functional.linear(torch.cat(x, -1), weights[f"{name}.weight"], weights[f"{name}.bias"])
    receivers = tables["receivers"]
    messages = linear("y.mlp2.1", x[receivers], x[tables["senders"]], e)
    rows = receivers[:, None].expand_as(messages)
    greatest = messages.new_zeros(len(x), 4).scatter_reduce(0, rows, messages, "amax", include_self=False)
    points = linear("linear1", linear("y.mlp.1", x, greatest))
    return points.new_zeros(2, 2).index_add(0, tables["index"], points)


def operators(run):
    """How often each operator of the library is called, and what `run` gives."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        found = run()
    return {e.key.split("::")[1]: e.count for e in profile.key_averages() if e.key.startswith("gdl_")}, found


class Held:
    """A tensor that is saved for the backward pass."""

    def __init__(self, tensor):
        self.tensor = tensor


def two_passes(model, x, e, tables):
    """The backward pass takes what the forward pass kept, which lives as long as PyTorch's own saved tensors; where it is derived in its turn it
    goes by the arguments."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    variables = [x, e, *model.parameters()]
    cotangent = torch.randn(2, 2, dtype=torch.float64)
    whole = lambda model=model: torch.autograd.grad((model(x, e, **tables) * cotangent).sum(), variables)
    expected = torch.autograd.grad((by_hand(model, x, e, tables) * cotangent).sum(), variables)
    close = lambda a, b: all(torch.allclose(p, q, rtol=1e-11, atol=1e-13) for p, q in zip(a, b, strict=True))
    names, found = operators(whole)
    assert names == {"keep": 1, "pullback": 1} and close(found, expected), names
    with torch.no_grad():
        assert operators(lambda: model(x, e, **tables))[0] == {"forward": 1}
    names, found = operators(lambda: torch.autograd.grad((model(x, e, **tables) * cotangent).sum(), variables, create_graph=True))
    assert names == {"keep": 1, "vjp": 1} and close(found, expected), names
    some = lambda: torch.autograd.grad((model(x.detach(), e, **tables) * cotangent).sum(), variables[1:3])
    names, found = operators(some)
    assert names == {"keep": 1, "pullback": 1} and close(found, expected[1:3]), names

    again = torch.utils.checkpoint.checkpoint(lambda x: model(x, e, **tables), x, use_reentrant=False)
    assert close(torch.autograd.grad((again * cotangent).sum(), variables), expected)

    held = []

    def pack(tensor):
        saved = Held(tensor)
        held.append((weakref.ref(saved), tensor.numel()))
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        y = model(x, e, **tables)
    operator = sys.modules["messages.torch_operators"].call
    kept = len(operator.pullback.arguments) - len(operator.vjp.arguments)
    assert kept > 0 and len(held) == len(operator.arguments) + kept and all(saved() for saved, _ in held)
    y.sum().backward(inputs=variables)
    assert not any(saved() for saved, _ in held), "saved tensors outlive the backward pass"
    refused("torch", [("backward through the graph a second time", lambda: y.sum().backward())])
    for variable in variables:
        variable.grad = None

    graphs = []

    def remember(graph, _):
        graphs.append({str(node.target).split(".")[1] for node in graph.graph.nodes if "gdl_" in str(node.target)})
        return make_boxed_func(graph.forward)

    compiled = torch.compile(model, fullgraph=True, backend=aot_autograd(fw_compiler=remember, bw_compiler=remember))
    found = torch.autograd.grad((compiled(x, e, **tables, samples=2) * cotangent).sum(), variables)
    assert graphs == [{"keep"}, {"pullback"}] and close(found, expected), graphs
    print("messages.torch: what the forward pass keeps is taken by the backward pass, compiled too, and freed by it; gradients are those of PyTorch")


def calls(f, *given):
    """How often each operator of the library is called."""
    names = [str(node.target) for node in make_fx(f)(*given).graph.nodes if "gdl_" in str(node.target)]
    return {name.split(".")[1]: names.count(name) for name in names}


def seen_by_others(model, x, e, tables):
    """Records of a call, forward mode over a backward pass, and inference within which derivatives are on: what PyTorch's own layers do there."""
    frozen = copy.deepcopy(model).requires_grad_(False)
    for recorded in [frozen, model]:
        for before in [False, True]:
            graph = make_fx(lambda x: recorded(x, e.detach(), **tables, samples=2), pre_dispatch=before)(x.detach())
            assert graph(x.detach().requires_grad_()).requires_grad, (recorded is model, before)
    tangent = torch.randn_like(x)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.detach().requires_grad_(), tangent)
        (gradient,) = torch.autograd.grad(frozen(dual, e.detach(), **tables, samples=2).sin().sum(), dual)
        found = forward_ad.unpack_dual(gradient).tangent
    f = lambda x: frozen(x, e.detach(), **tables, samples=2).sin().sum()
    expected = torch.func.jvp(torch.func.grad(f), (x.detach(),), (tangent,))[1]
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-13)
    with torch.inference_mode(), torch.enable_grad():
        assert not model(x, e, **tables, samples=2).requires_grad
    print("messages.torch: what is recorded can be derived; forward mode over a backward pass; inference")


def batched(package, model, e, tables):
    """A batch is one call of each operator, or one for each part that memory allows; with weights of its own each element is a call."""
    fn, plain = torch.func, copy.deepcopy(model).requires_grad_(False)
    f = lambda x: plain(x, e.detach(), **tables, samples=2)
    square = lambda x: f(x).square().sum()
    batch = torch.randn(7, 5, 3, dtype=torch.float64)
    once = {"forward": 1, "jvp": 1, "vjp": 1, "vjp_jvp": 1}
    for g, names in [(f, ["forward"]), (fn.grad(square), ["forward", "vjp"]), (fn.hessian(square), list(once))]:
        found, expected = calls(fn.vmap(g), batch), {name: once[name] for name in names}
        assert found == expected, found
        assert torch.allclose(fn.vmap(g)(batch), torch.stack([g(x) for x in batch]), rtol=1e-12, atol=1e-14)
    most = package.batch.MOST
    package.batch.MOST = package.MODEL.bytes([3 * 5, 3 * 7, 3 * 2])
    assert calls(fn.vmap(f), batch) == {"forward": 3}
    assert torch.equal(fn.vmap(f)(batch), torch.stack([f(x) for x in batch]))
    package.batch.MOST = most
    # the weights of the model are derived outside
    both = lambda x: model(x, e.detach(), **tables, samples=2)
    # what is recorded can be derived again, so that it keeps nothing
    assert calls(fn.vmap(both), batch) == {"forward": 1}
    weights = list(model.parameters())
    found = torch.autograd.grad(fn.vmap(both)(batch).square().sum(), weights)
    apart = torch.autograd.grad(sum(both(x).square().sum() for x in batch), weights)
    assert all(torch.allclose(a, b, rtol=1e-11) for a, b in zip(found, apart))
    wrong = {**tables, "senders": torch.stack([tables["senders"], tables["senders"] + 1])}
    try:
        fn.vmap(lambda senders: model(batch[0], e, **{**tables, "senders": senders}, samples=2))(wrong["senders"])
    except (RuntimeError, ValueError) as why:
        assert "G.senders" in str(why), why
    else:
        raise AssertionError("an index of one element reached the next")
    weights = {name: torch.stack([w.detach(), 2 * w.detach()]) for name, w in model.named_parameters()}
    both = fn.vmap(lambda weights: fn.functional_call(model, weights, (batch[0], e.detach()), {**tables, "samples": 2}))
    assert calls(both, weights) == {"forward": 2}
    apart = [fn.functional_call(model, {n: w[k] for n, w in weights.items()}, (batch[0], e.detach()), tables) for k in range(2)]
    assert torch.equal(both(weights), torch.stack(apart))
    print("messages.torch: vmap of the model, of its gradient, of its Hessian is a call of each operator; weights of each element")


def compiled(package, model, x, e, tables):
    inputs, sizes = in_order(package, x, e, tables)
    call = ([*inputs, *model._weights()], sizes, len(package.MODEL.outputs))
    found = torch.library.opcheck(torch.ops.gdl_messages.forward.default, call)
    assert set(found.values()) == {"SUCCESS"}, found
    tensors, keep = [t.detach() for t in call[0]], torch.ops.gdl_messages.keep.default
    count, most = len(inputs), len(package.MODEL.keep.outputs)
    y, *kept = keep(tensors, sizes, most)
    taken = [*tensors[:count], torch.ones_like(y), *kept, *tensors[count:]]
    for operator, given, wanted in [(keep, tensors, most), (torch.ops.gdl_messages.pullback.default, taken, len(package.MODEL.vjp.outputs))]:
        found = torch.library.opcheck(operator, (given, sizes, wanted))
        assert set(found.values()) == {"SUCCESS"}, found
    whole = torch.compile(model, fullgraph=True, backend="aot_eager")
    (g,) = torch.autograd.grad(whole(x, e, **tables, samples=2).sum(), x)
    (h,) = torch.autograd.grad(model(x, e, **tables).sum(), x)
    assert torch.equal(g, h)

    class Exported(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x, e, senders, receivers, index):
            return self.model(x, e, senders=senders, receivers=receivers, index=index, samples=2)

    n, m = torch.export.Dim("n"), torch.export.Dim("m")
    dims = {"x": {0: n}, "e": {0: m}, "senders": {0: m}, "receivers": {0: m}, "index": {0: n}}
    program = torch.export.export(Exported(), (x.detach(), e.detach(), *tables.values()), dynamic_shapes=dims)
    other = [torch.tensor(t) for t in ([0, 1, 2, 3, 4, 5, 0, 1], [0, 0, 1, 1, 2, 2, 3, 5], [0, 0, 0, 1, 1, 1])]
    x, e = torch.randn(6, 3, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    assert torch.equal(program.module()(x, e, *other), Exported()(x, e, *other))
    for exported in [program, program.run_decompositions()]:
        names = [str(node.target) for node in exported.graph.nodes if "gdl_" in str(node.target)]
        assert names == ["gdl_messages.forward.default"], names
    print("messages.torch: opcheck, torch.compile(fullgraph=True) forward and backward, torch.export with other sizes")


def kept(model, x, e, tables):
    """Instances that the library keeps are never those of other weights, tables, threads or processes."""
    y = model(x, e, **tables)
    for other in [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]:
        assert torch.equal(other(x, e, **tables), y)
    turned = {**tables, "senders": tables["senders"].flip(0)}
    z = model(x, e, **turned)
    assert not torch.equal(y, z)
    assert torch.equal(model(x, e, **tables), y) and torch.equal(model(x, e, **turned), z)
    weight = next(model.parameters())
    before = weight.detach().clone()
    weight.data.mul_(1.5)
    assert not torch.equal(model(x, e, **tables), y)
    weight.data.copy_(before)
    assert torch.equal(model(x, e, **tables), y)
    assert torch.equal(model(x.detach().T.contiguous().T, e, **tables), y), "tensors that are not row-major"
    found = [None] * 8

    def work(k):
        mine = {**tables, "senders": tables["senders"].roll(k)}
        results = [model(x, e, **mine) for _ in range(50)]
        found[k] = results[0] if all(torch.equal(r, results[0]) for r in results) else None

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for k, result in enumerate(found):
        assert torch.equal(result, model(x, e, **{**tables, "senders": tables["senders"].roll(k)})), k
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(model(x, e, **tables), y) else 1)
    assert os.waitpid(child, 0)[1] == 0
    print("messages.torch: other tables, other weights, copies, pickles, 8 threads, a fork")


def examples(step, graphs):
    """Some of the four graphs of a step as one, each the graph of TABLES with its own numbers."""
    n, m = len(TABLES["index"]), len(TABLES["senders"])
    index, edges = max(TABLES["index"]) + 1, {name: torch.tensor(TABLES[name]) for name in ["senders", "receivers"]}
    own = [torch.Generator().manual_seed(10 * step + g) for g in graphs]
    x = torch.cat([torch.randn(n, 3, dtype=torch.float64, generator=g) for g in own])
    e = torch.cat([torch.randn(m, 2, dtype=torch.float64, generator=g) for g in own])
    tables = {name: torch.cat([ends + k * n for k in range(len(graphs))]) for name, ends in edges.items()}
    tables["index"] = torch.cat([torch.tensor(TABLES["index"]) + k * index for k in range(len(graphs))])
    return x, e, tables


def trained(model, graphs, steps=5):
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        x, e, tables = examples(step, graphs)
        optimiser.zero_grad()
        (model(x, e, **tables) - 1).square().mean().backward()
        optimiser.step()


def process(rank, folder):
    """One of two processes: half of the graphs of each step."""
    import messages.torch

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = messages.torch.Messages()
    trained(torch.nn.parallel.DistributedDataParallel(model), [2 * rank, 2 * rank + 1])
    torch.save(model.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def distributed(package):
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(process, args=(folder,), nprocs=2)
        states = [torch.load(f"{folder}/{rank}.pt") for rank in range(2)]
    torch.manual_seed(0)
    model = package.Messages()
    before = {name: w.clone() for name, w in model.state_dict().items()}
    trained(model, [0, 1, 2, 3])
    for name, w in model.state_dict().items():
        assert torch.equal(states[0][name], states[1][name]), name
        assert torch.allclose(states[0][name], w, rtol=1e-9, atol=1e-12), name
    assert any(not torch.allclose(w, before[name], atol=1e-3) for name, w in model.state_dict().items()), "nothing was learnt"
    print("messages.torch: two processes by DistributedDataParallel reach the weights of one")


def without_index(pooled, x):
    """A set without an index is one sample, also where its values are not known."""
    model = pooled.Pooled().requires_grad_(False)
    y = model(x)
    assert y.shape == (1, 2) and torch.equal(y, model(x, index=torch.zeros(5, dtype=torch.int32), samples=1))
    assert torch.equal(torch.compile(model, fullgraph=True, backend="aot_eager")(x), y)
    program = torch.export.export(model, (x,), dynamic_shapes={"arguments": ({0: torch.export.Dim("n")},)})
    for n in [5, 8]:
        other = torch.randn(n, 3, dtype=torch.float64)
        assert torch.equal(program.module()(other), model(other))
    print("pooled.torch: a set without an index, compiled and exported")


def on_fake_gpu(package):
    """What PyTorch is told of tensors on a GPU, without one: outputs are there, tables on the CPU or not."""
    from torch._subclasses import FakeTensorMode

    operator = package.torch_operators.call
    with FakeTensorMode(), torch.device("cuda"):
        model = package.torch.Messages().requires_grad_(False)
        x, e = torch.empty(5, 3, dtype=torch.float64), torch.empty(7, 2, dtype=torch.float64)
        for device in ["cpu", "cuda"]:
            given = {name: torch.empty(len(table), dtype=torch.int64, device=device) for name, table in TABLES.items()}
            call = lambda x: model(x, e, **given, samples=2)
            assert call(x).is_cuda and call(x).shape == (2, 2)
            assert torch.func.vmap(call)(torch.empty(4, 5, 3, dtype=torch.float64)).is_cuda
            inputs, sizes = in_order(package, x, e, given)
            tensors = [*inputs, *model._weights()]
            found = operator.derivative(operator.vjp, tensors, [call(x)], sizes, len(operator.vjp.model.outputs))
            assert len(found) == 2 + len(model._weights()) and all(g.is_cuda for g in found)
    print("messages.torch: fake tensors of a GPU give outputs, batches and derivatives there")


def wrong_uses(package, model, pooled, x, e, tables):
    """What cannot be is an error that says what to do."""
    (a,) = torch.autograd.grad(model(x, e, **tables).square().sum(), x, create_graph=True)
    (b,) = torch.autograd.grad(a.square().sum(), x, create_graph=True)
    plain = pooled.Pooled()
    narrow = copy.deepcopy(model).float()
    call = lambda x=x, e=e, model=model, **other: model(x, e, **{**tables, **other})

    def changed():
        own = x.detach().clone().requires_grad_()
        found = call(own)
        with torch.no_grad():
            own.add_(1)
        found.sum().backward()

    senders = tables["senders"]
    refused("torch", [
        ("--grad 3", lambda: torch.autograd.grad(b.sum(), x)),
        ("order 0; build it again with `gdlc build --grad 1`", lambda: plain(x).sum().backward()),
        ("order 0; build it again with `gdlc build --grad 1`", lambda: torch.func.jvp(plain, (x.detach(),), (x.detach(),))),
        ("`x` is float32, and needs float64", lambda: call(x.float())),
        ("`x` is int64, and needs float64", lambda: call(x.long())),
        ("`x` is bool, and needs float64", lambda: call(x.bool())),
        ("`x` is bfloat16, and needs float64", lambda: call(x.bfloat16())),
        ("`x` is float16, and needs float64", lambda: call(x.half().t().contiguous().t())),
        ("`x` is complex128, and needs float64", lambda: call(x.cdouble())),
        ("`x` is float8, and needs float64", lambda: call(x.to(torch.float8_e4m3fn))),
        ("`G.senders` is float64, and needs int32 or int64", lambda: call(senders=senders.double())),
        ("`G.senders` is uint8, and needs int32 or int64", lambda: call(senders=senders.to(torch.uint8))),
        ("`y.mlp2.1.weight` is float32, and needs float64", lambda: call(model=narrow)),
        ("`x` is of <class 'numpy.ndarray'>, and needs to be a tensor", lambda: call(x.detach().numpy())),
        ("`x` is of <class 'list'>, and needs to be a tensor", lambda: call([[1.0, 2.0, 3.0]] * 5)),
        ("SparseCPU", lambda: call(x.detach().to_sparse())),
        ("modified by an inplace operation", changed),
        ("the input `e` is missing", lambda: model(x, **tables)),
        ("`x` is given twice", lambda: model(x, e, x=x, **tables)),
        ("2 arguments are taken (x, e), 3 were given", lambda: model(x, e, e, **tables)),
        ("neither an input", lambda: call(neighbours=senders)),
        ("`G.senders`: element 0 is 5, outside 0..5", lambda: call(senders=senders + 4)),
        ("`G.receivers` must not decrease", lambda: call(receivers=tables["receivers"].flip(0))),
        ("use `torch.export`", lambda: torch.jit.trace(pooled.Pooled(), (torch.zeros(4, 3),))),
        ("axis 1 has 4 elements", lambda: call(torch.zeros(5, 4, dtype=torch.float64))),
        ("has 1 axes, not 2", lambda: call(x[0])),
        ("the size `n` is 6, and 5 by axis 0 of `x`", lambda: call(n=6)),
        ("the size `samples` is -1", lambda: call(samples=-1)),
        ("the size `samples` is 2.5, and needs to be a whole number", lambda: call(samples=2.5)),
        ("`G.index`: element 3 is 1, outside 0..1", lambda: call(samples=1)),
        ("`messages` has 11 inputs and weights, 1 were given", lambda: package.torch_operators.call.call([x.detach()], [5, 7, 2], 1)),
    ])  # fmt: skip
    with torch.inference_mode():
        assert torch.equal(call(), model(x, e, **tables))
    y = call()
    module = importlib.reload(package.torch).Messages()
    module.load_state_dict(model.state_dict())
    assert torch.equal(call(model=module), y), "the module is loaded again"


def check():
    import messages
    import messages.batch
    import messages.torch
    import pooled.torch

    torch.manual_seed(0)
    x, e, tables = arguments()
    model = messages.torch.Messages()
    assert set(model.state_dict()) == {a.name for a in messages.MODEL.weights}, "names of the safetensors"
    print(f"messages.torch: the kernel is {'the library' if messages.torch_operators.SHIM else 'Python'}")
    derivatives(model, x, e, tables)
    two_passes(model, x, e, tables)
    seen_by_others(model, x, e, tables)
    batched(messages, model, e, tables)
    compiled(messages, model, x, e, tables)
    kept(model, x, e, tables)
    distributed(messages.torch)
    without_index(pooled.torch, x.detach())
    on_fake_gpu(messages)
    wrong_uses(messages, model, pooled.torch, x, e, tables)
