"""Writes examples/data/digits.safetensors: held-out UCI digits in all eight orientations.

The images are scikit-learn's `load_digits` (1797 images of 8x8, grey levels 0..16, divided by 16 here).
The split: `numpy.random.default_rng(0).permutation(1797)`; the first 1437 train, the last 360 are held out.
Only numpy, scikit-learn and safetensors are needed.

Element g = 4*m + r of D4 is R^r F^m on (x, y) = (column, -row): R turns by 90 degrees
counter-clockwise, F mirrors x -> -x. An image turned by g shows at z what it showed at g^-1 z.
"""

import os

import numpy as np

HELD_OUT = 360
DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


def matrices():
    """The eight matrices of D4 on (x, y), in the order g = 4*m + r."""
    turn, mirror = np.array([[0, -1], [1, 0]]), np.array([[-1, 0], [0, 1]])
    power = np.linalg.matrix_power
    return [power(turn, r) @ power(mirror, m) for m in range(2) for r in range(4)]


def pulled_back(g, k):
    """For each cell z of a k x k window, row-major: the cell g^-1 z."""
    inverse = matrices()[g].T
    cells = np.empty((k, k), dtype=np.int64)
    for row in range(k):
        for col in range(k):
            # twice the centred coordinates are integers for even k as well
            x, y = inverse @ np.array([2 * col - (k - 1), (k - 1) - 2 * row])
            cells[row, col] = ((k - 1) - y) // 2 * k + (x + k - 1) // 2
    return cells.reshape(-1)


def turned(images, g):
    """The images [..., k, k] acted on by element g."""
    k = images.shape[-1]
    return images.reshape(*images.shape[:-2], k * k)[..., pulled_back(g, k)].reshape(images.shape)


def split():
    """(train images, train labels, held-out images, held-out labels); images [n, 8, 8] in 0..1."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype(np.float32) / 16, digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    train, held = order[:-HELD_OUT], order[-HELD_OUT:]
    return images[train], labels[train], images[held], labels[held]


def main():
    from safetensors.numpy import save_file

    _, _, images, labels = split()
    everything = np.stack([turned(images, g) for g in range(8)])  # orientation, image, row, column
    save_file(
        {
            "x": np.ascontiguousarray(everything.reshape(-1, 8, 8, 1)),
            "labels": np.tile(labels, 8),
            "orientation": np.repeat(np.arange(8), len(labels)),
        },
        os.path.join(DATA, "digits.safetensors"),
    )
    print(f"{len(labels)} held-out images in 8 orientations")


if __name__ == "__main__":
    main()
