"""Classifies held-out digits with a compiled library, using only NumPy and ctypes.

    gdlc build examples/digits.gdl -o out
    python examples/call_from/python/digits.py out
"""

import os
import sys

import numpy as np

from library import Library, read

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "data")


def classify(folder, data):
    """Logits [image, 10] of images [image, 8, 8, 1]."""
    logits = np.empty((len(data["x"]), 10), np.float32)
    Library(folder, "digits").run(data, read(os.path.join(DATA, "digits.weights.safetensors")), [logits])
    return logits


def main(folder):
    data = read(os.path.join(DATA, "digits.safetensors"))
    right = classify(folder, data).argmax(1) == data["labels"]
    for g in range(8):
        print(f"orientation {g}: accuracy {right[data['orientation'] == g].mean():.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
