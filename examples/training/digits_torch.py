"""Trains digits.gdl in PyTorch, forward and backward by the library's own kernels, on upright UCI digits.

    gdlc build examples/digits.gdl -o out --grad 1 --bind python && pip install ./out
    python examples/training/digits_torch.py weights.safetensors [EPOCHS]

`gdlc run`, C and every other caller take the weights as they are written. Needs torch, scikit-learn and safetensors.
"""

import os
import sys

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from digits_data import split
from digits.torch import Digits

RATE, BATCH = 1e-2, 64


def main(path, epochs):
    torch.manual_seed(0)
    images, labels, held, held_labels = (torch.tensor(a) for a in split())
    images, held = images[..., None], held[..., None]
    model = Digits()
    steps = epochs * -(-len(images) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = cross_entropy(model(images[batch]), labels[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}: loss {total / len(images):.4f}", flush=True)
    save_file(model.state_dict(), path)
    with torch.no_grad():
        right = model(held).argmax(1) == held_labels
    print(f"held-out accuracy {right.double().mean():.3f}; weights in {path}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 80)
