"""The package of a model on JAX. `python_package.py` installs it and calls `check`."""

import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from python_package import TABLES, refused


def derivatives(messages, params, x, e, tables):
    f = lambda x: (messages(params, x, e, **tables, samples=2) ** 2).sum()
    steps = 1e-5 * np.eye(15).reshape(15, 5, 3)
    slopes = np.array([(f(x + d) - f(x - d)) / 2e-5 for d in steps]).reshape(5, 3)
    gradient = jax.jit(jax.grad(f))
    assert np.allclose(gradient(x), slopes, rtol=1e-6, atol=1e-9)
    expected = np.stack([(gradient(x + d) - gradient(x - d)) / 2e-5 for d in steps]).reshape(5, 3, 5, 3)
    modes = {"forward": jax.jacfwd, "reverse": jax.jacrev}
    for a, outer in modes.items():
        for b, inner in modes.items():
            error = np.abs(jax.jit(outer(inner(f)))(x) - expected).max() / np.abs(expected).max()
            assert error < 1e-6, f"{a} over {b}: {error}"
    check_grads(lambda p, x, e: messages(p, x, e, **tables), (params, x, e), order=2, modes=["fwd", "rev"])
    print("messages.jax: the four Hessians are those of differences; check_grads of order 2 by inputs and weights, both modes")
    batch = np.random.default_rng(2).normal(size=(3, 5, 3))
    apart = np.stack([gradient(x) for x in batch])
    assert np.allclose(jax.jit(jax.vmap(jax.grad(f)))(batch), apart, rtol=1e-12)
    assert np.allclose(jax.grad(lambda batch: jax.vmap(f)(batch).sum())(batch), apart, rtol=1e-12)
    print("messages.jax: jit, vmap of grad, grad of vmap")


def calls(f, *given):
    """The primitives of the library, and the loops, of a function."""
    return sorted(re.findall(r"= (gdl_\w+|while|scan)\[", str(jax.make_jaxpr(f)(*given))))


def two_passes(package, params, x, e, tables):
    """The derivative evaluates the pass that keeps, once, and its transpose takes what was kept: the numbers of the derivative in one pass."""
    cotangent = np.random.default_rng(5).normal(size=(2, 2))
    f = lambda x, e, params: (package.jax.messages(params, x, e, **tables, samples=2) * cotangent).sum()
    passes = ["gdl_messages_keep", "gdl_messages_pullback"]
    assert calls(jax.value_and_grad(f, argnums=(0, 1, 2)), x, e, params) == passes
    assert calls(f, x, e, params) == ["gdl_messages"]
    whole = jax.jit(jax.grad(f, argnums=(0, 1, 2)))(x, e, params)
    given = {"x": x, "e": e, **{f"G.{name}": table for name, table in tables.items()}, "grad.y": cotangent}
    vjp, weights = package.jax._call.vjp, [params[a.name] for a in package.MODEL.weights]
    expected = vjp.bind(*(given[a.name] for a in vjp.model.inputs), *weights, sizes=tuple(package.MODEL.solve([given[a.name].shape for a in package.MODEL.inputs], {"samples": 2})))
    found = [whole[0], whole[1], *(whole[2][a.name] for a in package.MODEL.weights)]
    assert all(np.allclose(a, b, rtol=1e-11, atol=1e-13) for a, b in zip(found, expected, strict=True))
    remade = jax.grad(jax.checkpoint(lambda x: f(x, e, params)))(x)
    assert np.allclose(remade, whole[0], rtol=1e-12)
    assert np.allclose(jax.grad(lambda x: f(x, e, params))(x), whole[0], rtol=1e-12)
    y, pull = jax.vjp(lambda x: package.jax.messages(params, x, e, **tables, samples=2), x)
    assert np.allclose(pull(jnp.asarray(cotangent))[0], whole[0], rtol=1e-12)
    slope = jax.jvp(lambda x: f(x, e, params), (x,), (np.ones_like(x),))[1]
    assert np.allclose(slope, whole[0].sum(), rtol=1e-11)
    print("messages.jax: what the forward pass keeps is taken by the transpose, under jit and checkpoint; the numbers of the derivative in one pass")


def batched(package, params, e, tables):
    """A batch is one call of each model, or a loop over parts that memory allows; with weights of its own each element is a call."""
    f = lambda x: package.jax.messages(params, x, e, **tables, samples=2)
    square = lambda x: (f(x) ** 2).sum()
    batch = np.random.default_rng(3).normal(size=(7, 5, 3))
    once = ["gdl_messages_jvp", "gdl_messages_keep", "gdl_messages_pullback", "gdl_messages_vjp_jvp"]
    for g, names in [(f, ["gdl_messages"]), (jax.grad(square), once[1:3]), (jax.hessian(square), once)]:
        found = calls(jax.vmap(g), batch)
        assert found == names, found
        assert np.allclose(jax.vmap(g)(batch), np.stack([g(x) for x in batch]), rtol=1e-12, atol=1e-14)
    images = np.random.default_rng(4).normal(size=(2, 3, 8, 8, 1)).astype("float32")
    import digits.jax

    weights = digits.jax.initial(jax.random.key(1))
    classify = jax.vmap(lambda images: digits.jax.digits(weights, images))
    assert calls(classify, images) == ["gdl_digits"]
    assert np.array_equal(classify(images), np.stack([digits.jax.digits(weights, part) for part in images]))
    most = package.batch.MOST
    package.batch.MOST = package.MODEL.bytes([3 * 5, 3 * 7, 3 * 2])
    assert calls(jax.vmap(f), batch) == ["gdl_messages", "gdl_messages", "scan"]
    assert np.array_equal(jax.vmap(f)(batch), np.stack([f(x) for x in batch]))
    package.batch.MOST = most
    weights = jax.tree.map(lambda w: jnp.stack([w, 2 * w]), params)
    both = jax.vmap(lambda params: package.jax.messages(params, batch[0], e, **tables, samples=2))
    assert calls(both, weights) == ["gdl_messages", "scan"]
    apart = [package.jax.messages(jax.tree.map(lambda w: w[k], weights), batch[0], e, **tables, samples=2) for k in range(2)]
    assert np.array_equal(both(weights), np.stack(apart))
    print("messages.jax: vmap of the model, of its gradient, of its Hessian is a call of each primitive; weights of each element")


def sharded(classify, params, x):
    """The batch over two devices of the host."""
    if jax.device_count() < 2:
        print("one device: shard_map was left out")
        return
    shard_map = getattr(jax, "shard_map", None)
    if shard_map is None:
        from jax.experimental.shard_map import shard_map
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("batch",))
    whole, batch = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("batch")
    loss = lambda params, x: jax.lax.pmean((classify(params, x) ** 2).mean(), "batch")
    spread = jax.jit(jax.grad(shard_map(loss, mesh=mesh, in_specs=(whole, batch), out_specs=whole)))
    alone = jax.jit(jax.grad(lambda params, x: (classify(params, x) ** 2).mean()))
    for name, expected in alone(params, x).items():
        found = spread(params, x)[name]
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max(), name
    print("digits.jax: gradients of a batch over two devices by shard_map are those of one")


def lowered_for_gpus(package, params, x, e, tables):
    """Programs for CUDA, made without a GPU: the primitives of the call and of the gradient are there, and XLA has a handler for each."""
    f = lambda x: package.jax.messages(params, x, e, **tables, samples=2).sum()
    names = ["gdl_messages", "gdl_messages_keep", "gdl_messages_pullback"]
    for g, expected in [(f, names[:1]), (jax.grad(f), names[1:]), (lambda x: (f(x), jax.grad(f)(x)), names)]:
        checks = [jax.export.DisabledSafetyCheck.custom_call(name) for name in names]
        text = jax.export.export(jax.jit(g), platforms=["cuda"], disabled_checks=checks)(x).mlir_module()
        found = re.findall(r"custom_call @(gdl_\w+)", text)
        assert sorted(set(found)) == expected, found
    assert all(hasattr(package.MODEL.library, f"{name}_xla_cuda") for name in names)
    print("messages.jax: programs for CUDA have the library's calls")


def wrong_uses(messages, pooled, params, x, e, tables):
    """What cannot be is an error that says what to do."""
    third = jax.grad(lambda x: jax.grad(lambda x: jax.grad(lambda x: messages(params, x, e, **tables).sum())(x).sum())(x).sum())
    call = lambda x=x, e=e, params=params, **other: jax.block_until_ready(messages(params, x, e, **{**tables, **other}))
    plain, senders = pooled.initial(jax.random.key(1)), tables["senders"]
    narrow = {name: w.astype("float32") for name, w in params.items()}
    refused("jax", [
        ("--grad 3", lambda: third(x)),
        ("order 0; build it again with `gdlc build --grad 1`", lambda: jax.grad(lambda x: pooled.pooled(plain, x).sum())(x)),
        ("`x` is float32", lambda: call(x.astype("float32"))),
        ("`x` is int64", lambda: call(x.astype("int64"))),
        ("`x` is bool", lambda: call(x > 0)),
        ("`x` is bfloat16", lambda: call(jnp.asarray(x, "bfloat16"))),
        ("`x` is complex128", lambda: call(x + 1j)),
        ("`G.senders` is float64, and needs int32 or int64", lambda: call(senders=senders + 0.5)),
        ("`G.senders` is uint8, and needs int32 or int64", lambda: call(senders=senders.astype("uint8"))),
        ("`y.mlp2.1.weight` is float32", lambda: call(params=narrow)),
        ("has the shape (5, 2)", lambda: call(x[:, :2])),
        ("has 1 axes, not 2", lambda: call(x[0])),
        ("outside 0..5", lambda: call(senders=senders + 4)),
        ("outside 0..5", lambda: jax.block_until_ready(jax.jit(lambda senders: messages(params, x, e, **{**tables, "senders": senders}))(senders + 4))),
        ("`G.receivers` must not decrease", lambda: call(receivers=tables["receivers"][::-1])),
        ("give `samples=`", lambda: jax.jit(lambda index: messages(params, x, e, **{**tables, "index": index}))(tables["index"])),
        ("the size `n` is 6, and 5 by axis 0 of `x`", lambda: call(n=6)),
        ("the size `samples` is -1", lambda: call(samples=-1)),
        ("the size `samples` is 2.5, and needs to be a whole number", lambda: call(samples=2.5)),
        ("the input `e` is missing", lambda: messages(params, x, **tables)),
        ("is missing", lambda: call(params={})),
    ])  # fmt: skip


def without_index(pooled, x):
    """A set without an index is one sample, also where its values are not known."""
    params = pooled.initial(jax.random.key(1))
    y = jax.jit(pooled.pooled)(params, x)
    known = jnp.asarray([0, 0, 1, 1, 1])
    assert np.array_equal(jax.jit(lambda x: pooled.pooled(params, x, index=known))(x), pooled.pooled(params, x, index=known, samples=2))
    assert y.shape == (1, 2) and np.array_equal(y, pooled.pooled(params, x, index=np.zeros(5, "int32"), samples=1))
    print("pooled.jax: a set without an index, under jit")


def check(weights, images, logits):
    """`weights`, `images` and `logits` are those of digits, from torch."""
    import digits.jax
    import messages.batch
    import messages.jax
    import messages.numpy
    import pooled.jax

    jax.config.update("jax_enable_x64", True)
    print(f"JAX {jax.__version__}")
    found = jax.jit(digits.jax.digits)(weights, images.astype("float32"))
    error = np.abs(found - logits).max() / np.abs(logits).max()
    assert error < 5e-6 * np.sqrt(25 + 1600 + 8), error
    print(f"digits.jax: logits against torch, relative error {error:.1e}")
    rng = np.random.default_rng(1)
    x, e = rng.normal(size=(5, 3)), rng.normal(size=(7, 2))
    tables = {name: np.array(table) for name, table in TABLES.items()}
    params = messages.jax.initial(jax.random.key(0))
    y = messages.numpy.call({name: np.asarray(w) for name, w in params.items()}, x, e, **tables)
    assert np.array_equal(messages.jax.messages(params, jnp.asarray(x), e, **tables), y)
    derivatives(messages.jax.messages, params, x, e, tables)
    two_passes(messages, params, x, e, tables)
    batched(messages, params, e, tables)
    sharded(digits.jax.digits, weights, images.astype("float32"))
    lowered_for_gpus(messages, params, x, e, tables)
    without_index(pooled.jax, x)
    wrong_uses(messages.jax.messages, pooled.jax, params, x, e, tables)
