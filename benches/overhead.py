"""Times a call of almost nothing from a framework, beside the least that the framework itself does.

    gdlc build benches/programs/square.gdl --grad 1 --bind python -o out/overhead
    python benches/overhead.py out/overhead            PyTorch, JAX, NumPy: those that are there

Prints the least and the median of batches of calls, in microseconds. One thread.
"""

import os
import statistics
import sys
import time

os.environ.update(OMP_NUM_THREADS="1", GDL_NUM_THREADS="1")


def timed(what, call, calls=2000, batches=25):
    call()
    times = []
    for _ in range(batches):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - start) / calls * 1e6)
    print(f"{what:50} least {min(times):7.2f}  median {statistics.median(times):7.2f} us", flush=True)


def on_torch():
    import torch

    import square.torch
    from square.torch_operators import call

    torch.set_num_threads(1)
    x, model, linear = torch.randn(3, 4), square.torch.Square(), torch.nn.Linear(4, 4)
    sizes = square.MODEL.solve([x.shape])
    with torch.no_grad():
        timed("torch: x * x", lambda: x * x)
        timed("torch: the operator", lambda: call([x], sizes, 1))
        timed("torch: the module", lambda: model(x))
        timed("torch: torch.nn.Linear, for comparison", lambda: linear(x))
    x.requires_grad_()
    timed("torch: the module, to be derived", lambda: model(x))


def on_jax():
    import jax
    import jax.numpy as jnp

    import square.jax

    x = jnp.ones((3, 4))
    plain, own = jax.jit(lambda params, x: x * x), jax.jit(square.jax.square)
    timed("jax: x * x under jit", lambda: plain({}, x).block_until_ready())
    timed("jax: the model under jit", lambda: own({}, x).block_until_ready())
    timed("jax: the model, not under jit", lambda: square.jax.square({}, x).block_until_ready(), calls=300)


def on_numpy():
    import numpy as np

    import square.numpy

    x = np.ones((3, 4), np.float32)
    timed("numpy: x * x", lambda: x * x)
    timed("numpy: the model", lambda: square.numpy.call({}, x))


if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(sys.argv[1]))
    for part in [on_numpy, on_torch, on_jax]:
        try:
            part()
        except ModuleNotFoundError as missing:
            print(f"{part.__name__}: left out: {missing}")
