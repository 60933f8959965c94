"""Trains digits.gdl in JAX, forward and backward by the library's own kernels, on upright UCI digits.

    gdlc build examples/digits.gdl -o out --grad 1 --bind python && pip install ./out
    python examples/training/digits_jax.py weights.safetensors [EPOCHS]

`gdlc run`, C and every other caller take the weights as they are written. Needs jax, scikit-learn and safetensors.
"""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from digits_data import split
from digits.jax import digits, initial

RATE, BATCH, DECAY = 1e-2, 64, 0.05


def loss(params, images, labels):
    """Cross entropy with labels smoothed by 0.05."""
    scores = jax.nn.log_softmax(digits(params, images))
    target = 0.95 * jax.nn.one_hot(labels, 10) + 0.05 / 10
    return -(target * scores).sum(1).mean()


@jax.jit
def step(params, first, second, images, labels, k, rate):
    """One step of AdamW, the k-th."""
    value, gradient = jax.value_and_grad(loss)(params, images, labels)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)

    def moved(p, m, v):
        return p - rate * (m / (1 - 0.9**k) / (jnp.sqrt(v / (1 - 0.999**k)) + 1e-8) + DECAY * p)

    return jax.tree.map(moved, params, first, second), first, second, value


def main(path, epochs):
    images, labels, held, held_labels = split()
    images, held = images[..., None], held[..., None]
    rng = np.random.default_rng(0)
    params = initial(jax.random.key(0))
    first = second = jax.tree.map(jnp.zeros_like, params)
    steps, k = epochs * -(-len(images) // BATCH), 0
    for epoch in range(epochs):
        total = 0.0
        order = rng.permutation(len(images))
        for begin in range(0, len(images), BATCH):
            batch = order[begin:begin + BATCH]
            k += 1
            warm = 0.3 * steps  # up in the first third, then down, each half a cosine
            way = k / warm if k < warm else 1 - (k - warm) / (steps - warm)
            rate = RATE * (0.02 + 0.98 * (1 - np.cos(np.pi * way)) / 2)
            params, first, second, value = step(params, first, second, images[batch], labels[batch], k, rate)
            total += float(value) * len(batch)
        print(f"epoch {epoch + 1}: loss {total / len(images):.4f}", flush=True)
    save_file({name: np.asarray(w) for name, w in params.items()}, path)
    right = digits(params, held).argmax(1) == held_labels
    print(f"held-out accuracy {right.mean():.3f}; weights in {path}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 80)
