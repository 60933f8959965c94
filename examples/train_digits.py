"""Trains digits.gdl (p4m) and lenet.gdl (shift) on upright UCI digits, with plain torch operations.

    python examples/train_digits.py            # train both, write weights and tests/golden/digits_logits.safetensors
    python examples/train_digits.py --check    # only evaluate the weights that are there

Writes data/{digits,lenet}.weights.safetensors, named as the language names weights. A map from
copies to copies over a k x k window has `weight` [out, in, basis]: for regular -> regular fibres the
basis is (h, z) with W[o g, c h, z] = weight[o, c, g^-1 h, g^-1 z]; for scalar -> regular it is z with
W[o g, c, z] = weight[o, c, g^-1 z]; under `shift` it is z, the ordinary filter. `bias` has one entry a copy.
"""

import argparse
import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from digits_data import DATA, matrices, pulled_back, split, turned

GOLDEN = os.path.join(DATA, "..", "..", "tests", "golden", "digits_logits.safetensors")
CHANNELS = 8
WINDOW = 5
RATE = 1e-2


class Group:
    """A point group acting on the cells of a window: trivial (`shift`) or D4 (`p4m`)."""

    def __init__(self, order):
        self.order = order
        elements = matrices()[:order]
        quotient = [[next(k for k, e in enumerate(elements) if (e == a.T @ b).all()) for b in elements] for a in elements]
        self.quotient = torch.tensor(quotient)  # [g, h] -> g^-1 h
        self.cells = torch.tensor(np.stack([pulled_back(g, WINDOW) for g in range(order)]))  # [g, z] -> g^-1 z

    def lifting(self, weight):
        """[o, c, z] -> the plain filter [o g, c, k, k]."""
        return weight[:, :, self.cells].permute(0, 2, 1, 3).reshape(-1, weight.shape[1], WINDOW, WINDOW)

    def convolution(self, weight):
        """[o, c, (h, z)] -> the plain filter [o g, c h, k, k]."""
        o, c, n = weight.shape[0], weight.shape[1], self.order
        w = weight.reshape(o, c, n, -1)[:, :, self.quotient[:, :, None], self.cells[:, None, :]]  # o c g h z
        return w.permute(0, 2, 1, 3, 4).reshape(o * n, c * n, WINDOW, WINDOW)

    def forward(self, p, x):
        """Logits [batch, 10] of images [batch, k, k]: the model of digits.gdl, line for line."""
        spread = lambda bias: bias.repeat_interleave(self.order)
        conv = lambda x, w, b: F.relu(F.conv2d(x, w, spread(b), padding=WINDOW // 2))
        x = conv(x[:, None], self.lifting(p["linear1.weight"]), p["linear1.bias"])
        x = conv(x, self.convolution(p["linear2.weight"]), p["linear2.bias"])
        x = F.avg_pool2d(x, 2)
        x = x.reshape(len(x), -1, self.order, *x.shape[2:]).amax(dim=(2, 3, 4))
        return x @ p["linear3.weight"].T + p["linear3.bias"]

    def initial(self):
        """Weights of variance 2 / fan-in (before relu), biases zero."""
        c, cells, n = CHANNELS, WINDOW**2, self.order
        shapes = {1: (c, 1, cells), 2: (c, c, n * cells), 3: (10, c)}
        p = {}
        for k, shape in shapes.items():
            p[f"linear{k}.weight"] = torch.randn(shape) * math.sqrt(2 / math.prod(shape[1:]))
            p[f"linear{k}.bias"] = torch.zeros(shape[0])
        return p


MODELS = {"digits": Group(8), "lenet": Group(1)}


def train(group, images, labels, epochs):
    torch.manual_seed(0)
    p = {k: v.requires_grad_() for k, v in group.initial().items()}
    steps = epochs * math.ceil(len(images) / 64)
    optimiser = torch.optim.AdamW(p.values(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(64):
            loss = F.cross_entropy(group.forward(p, images[batch]), labels[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(batch)
        if epoch % 5 == 4:
            print(f"  epoch {epoch + 1}: loss {total / len(images):.4f}", flush=True)
    return {k: v.detach() for k, v in p.items()}


@torch.no_grad()
def report(name, group, p, images, labels):
    """Prints the accuracy in each orientation and the largest change of a logit, in f64."""
    p = {k: v.double() for k, v in p.items()}
    upright = group.forward(p, torch.tensor(images).double())
    rates, change = [], 0.0
    for g in range(8):
        logits = group.forward(p, torch.tensor(turned(images, g)).double())
        rates.append(f"{(logits.argmax(1) == torch.tensor(labels)).double().mean():.3f}")
        change = max(change, (logits - upright).abs().max().item())
    print(f"{name}: held-out accuracy by orientation {' '.join(rates)}; largest change of a logit {change:.1e}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--epochs", type=int, default=80)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, labels, held, held_labels = split()
    golden = {"x": torch.tensor(held[:16, :, :, None]).double()}
    for name, group in MODELS.items():
        path = os.path.join(DATA, f"{name}.weights.safetensors")
        if not options.check:
            save_file(train(group, torch.tensor(images), torch.tensor(labels), options.epochs), path)
        p = load_file(path)
        report(name, group, p, held, held_labels)
        golden[f"{name}.logits"] = group.forward({k: v.double() for k, v in p.items()}, golden["x"][..., 0])
    if not options.check:
        save_file(golden, GOLDEN)


if __name__ == "__main__":
    main()
