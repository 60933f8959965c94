"""Trains mpnn.gdl on Zachary's karate club from a few labelled members, with plain torch operations.

    python examples/train_karate.py

Writes data/karate.weights.safetensors, named as the language names weights, and the logits (f64) that they give
to tests/golden/karate_logits.safetensors. The eight members whose
`seen` is 1 in data/karate.safetensors are labelled in training; the other 26 are held out.
"""

import math
import os

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
GOLDEN = os.path.join(DATA, "..", "..", "tests", "golden", "karate_logits.safetensors")
CHANNELS, TURNS = 16, 3


def shapes(features, edge_features):
    """Name -> [out, in] of each linear map of the model."""
    c = CHANNELS
    maps = {"h.linear": (c, features)}
    for k in range(1, TURNS + 1):
        maps[f"h.{k}.mpnn.y.mlp.1"] = (c, 2 * c)
        maps[f"h.{k}.mpnn.y.mlp2.1"] = (c, 2 * c + edge_features)
    maps["linear1"] = (2, c)
    return maps


def forward(p, data):
    """Logits [n, 2]: the model of mpnn.gdl, line for line."""
    linear = lambda name, *x: F.linear(torch.cat(x, -1), p[f"{name}.weight"], p[f"{name}.bias"])
    senders, receivers = data["Graph.senders"].long(), data["Graph.receivers"].long()
    e = data["e"].to(p["linear1.weight"].dtype)
    h = linear("h.linear", data["x"].to(e.dtype))
    for k in range(1, TURNS + 1):
        x = torch.relu(h)
        message = linear(f"h.{k}.mpnn.y.mlp2.1", x[receivers], x[senders], e)
        most = torch.zeros_like(h).scatter_reduce(0, receivers[:, None].expand_as(message), message, "amax", include_self=False)
        h = h + linear(f"h.{k}.mpnn.y.mlp.1", x, most)
    return linear("linear1", h)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = load_file(os.path.join(DATA, "karate.safetensors"))
    labels, seen = data["labels"].long(), data["seen"].bool()
    p = {}
    for name, shape in shapes(data["x"].shape[1], data["e"].shape[1]).items():
        p[f"{name}.weight"] = (torch.randn(shape) / math.sqrt(shape[1])).requires_grad_()
        p[f"{name}.bias"] = torch.zeros(shape[0], requires_grad=True)
    optimiser = torch.optim.AdamW(p.values(), lr=5e-3, weight_decay=0.1)
    for _ in range(400):
        loss = F.cross_entropy(forward(p, data)[seen], labels[seen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    p = {k: v.detach() for k, v in p.items()}
    logits = forward({k: v.double() for k, v in p.items()}, data)
    right = logits.argmax(1) == labels
    print(f"loss {loss.item():.4f}; accuracy: labelled {right[seen].double().mean():.3f}, held out {right[~seen].double().mean():.3f}, all {right.double().mean():.3f}")
    save_file(p, os.path.join(DATA, "karate.weights.safetensors"))
    save_file({"logits": logits}, GOLDEN)


if __name__ == "__main__":
    main()
