"""Writes scalar_functions.json: values of the scalar functions to twice the precision of f64, by mpmath 1.3.

Each entry is [x, high, low] with f(x) = high + low, as text, which every reader rounds alike. Run by hand: python3 tests/golden/scalar_functions.py
"""
import json
import random
from pathlib import Path

import mpmath

mpmath.mp.prec = 300
FUNCTIONS = {
    "exp": (mpmath.exp, (-700, 700), (-2, 2)),
    "log": (mpmath.log, (1e-9, 1e9), (0.5, 2)),
    "tanh": (mpmath.tanh, (-25, 25), (-1, 1)),
    "sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), (-600, 600), (-5, 5)),
    "erf": (mpmath.erf, (-6.5, 6.5), (-1.5, 1.5)),
    "sin": (mpmath.sin, (-10000, 10000), (-4, 4)),
    "cos": (mpmath.cos, (-10000, 10000), (-4, 4)),
}


def row(f, x):
    y = f(mpmath.mpf(x))
    high = float(y)
    return [repr(x), repr(high), repr(float(y - mpmath.mpf(high)))]


random.seed(1)
table = {}
for name, (f, wide, narrow) in FUNCTIONS.items():
    xs = [random.uniform(*wide) for _ in range(40)] + [random.uniform(*narrow) for _ in range(70)]
    if name != "log":
        xs += [random.choice([-1, 1]) * 10.0 ** random.uniform(-12, 0) for _ in range(20)]
    else:
        xs += [1 + random.choice([-1, 1]) * 10.0 ** random.uniform(-12, -1) for _ in range(20)]
        xs += [10.0 ** random.uniform(-307, 308) for _ in range(20)]
    table[name] = [row(f, x) for x in xs]
path = Path(__file__).with_suffix(".json")
lines = [f'"{name}": [\n' + ",\n".join(json.dumps(r) for r in rows) + "\n]" for name, rows in table.items()]
path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
