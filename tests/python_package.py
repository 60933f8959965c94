"""The Python package of a model: installed by pip from what `gdlc build --bind python` wrote, on NumPy and on PyTorch.

Needs GDLC (the compiler), pip, numpy and safetensors. The part on PyTorch needs torch; where there is none it says so and is left out,
unless GDL_TEST_TORCH is set.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
DATA = os.path.join(ROOT, "examples", "data")

GRAPH = """domain G = graph(n, m)
model Messages(x: G -> 3, e: G.edges -> 2): 2 = {
  y[i] = mlp[4](x[i], max j~i: mlp[4](x[i], x[j], e[i,j]))
  y |> linear 2 |> pool sum
}
"""
TABLES = {"senders": [1, 2, 0, 1, 4, 3, 3], "receivers": [0, 0, 1, 2, 3, 4, 4], "index": [0, 0, 0, 1, 1]}


def install(program, folder, *options):
    """Builds a program's package and installs it with pip, which needs no network and no compiler."""
    out, site = os.path.join(folder, "out"), os.path.join(folder, "site")
    subprocess.run([os.environ["GDLC"], "build", program, "-o", out, "--bind", "python", *options], check=True, stdout=subprocess.PIPE)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", "--target", site, out]
    subprocess.run(pip, check=True)
    sys.path.insert(0, site)


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def on_numpy():
    import digits.numpy

    weights = load_file(os.path.join(DATA, "digits.weights.safetensors"))
    golden = load_file(os.path.join(ROOT, "tests", "golden", "digits_logits.safetensors"))
    error = relative(digits.numpy.call(weights, golden["x"]), golden["digits.logits"])
    assert error < 5e-6 * np.sqrt(25 + 1600 + 8), error
    print(f"digits.numpy: logits against torch, relative error {error:.1e}")

    import messages.numpy

    rng = np.random.default_rng(1)
    weights, x, e = messages.numpy.initial(2), rng.normal(size=(5, 3)), rng.normal(size=(7, 2))
    tables = {name: np.array(table) for name, table in TABLES.items()}
    cotangent = rng.normal(size=(2, 2))
    gradients = messages.numpy.vjp(weights, [cotangent], x, e, **tables)
    steps = {name: rng.normal(size=value.shape) for name, value in {**weights, "x": x, "e": e}.items()}

    def value(t):
        moved = {name: w + t * steps[name] for name, w in weights.items()}
        y = messages.numpy.call(moved, x + t * steps["x"], e + t * steps["e"], **tables)
        return (y * cotangent).sum()

    expected = (value(1e-5) - value(-1e-5)) / 2e-5
    slope = sum((gradients[name] * steps[name]).sum() for name in steps)
    assert abs(slope - expected) < 1e-6 * abs(expected), (slope, expected)
    print("messages.numpy: derivatives are those of central differences")


def on_torch():
    import copy
    import pickle

    import torch
    import messages.torch

    torch.manual_seed(0)
    model = messages.torch.Messages()
    assert set(model.state_dict()) == {a.name for a in messages.MODEL.weights}, "names of the safetensors"
    x, e = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in [(5, 3), (7, 2)])
    tables = {name: torch.tensor(table) for name, table in TABLES.items()}
    y = model(x, e, **tables)

    def by_all(x, e, *weights):
        return torch.func.functional_call(model, dict(zip(dict(model.named_parameters()), weights)), (x, e), tables)

    arguments = (x, e, *model.parameters())
    assert torch.autograd.gradcheck(by_all, arguments) and torch.autograd.gradgradcheck(by_all, arguments)
    print("messages.torch: gradcheck and gradgradcheck by inputs and weights")
    given = {"x": x, "e": e, **{f"G.{name}": table for name, table in tables.items()}}
    inputs = [given[a.name] for a in messages.MODEL.inputs]
    sizes = messages.MODEL.solve([i.shape for i in inputs], {"samples": 2})
    found = torch.library.opcheck(torch.ops.gdl_messages.forward.default, (*inputs, *model._weights(), *sizes))
    assert set(found.values()) == {"SUCCESS"}, found
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    (g,) = torch.autograd.grad(compiled(x, e, **tables, samples=2).sum(), x)
    (h,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    assert torch.equal(g, h)
    print("messages.torch: opcheck, torch.compile(fullgraph=True) forward and backward")
    for other in [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]:
        assert torch.equal(other(x, e, **tables), y)
    refused(torch, model, x, e, tables)


def refused(torch, model, x, e, tables):
    """What cannot be is an error that says what to do."""
    (a,) = torch.autograd.grad(model(x, e, **tables).square().sum(), x, create_graph=True)
    (b,) = torch.autograd.grad(a.square().sum(), x, create_graph=True)

    def forward_mode():
        with torch.autograd.forward_ad.dual_level():
            model(torch.autograd.forward_ad.make_dual(x.detach(), torch.ones_like(x)), e, **tables)

    cases = {
        "--grad 3": lambda: torch.autograd.grad(b.sum(), x),
        "forward mode": forward_mode,
        "torch.float32": lambda: model(x.float(), e, **tables),
        "the input `e` is missing": lambda: model(x, **tables),
        "outside 0..5": lambda: model(x, e, **{**tables, "senders": tables["senders"] + 4}),
        "neither an input": lambda: model(x, e, neighbours=tables["senders"]),
    }
    for words, call in cases.items():
        try:
            call()
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as why:
            assert words in str(why), f"{words}: {why}"
        else:
            raise AssertionError(f"{words}: no error")
    print(f"messages.torch: {len(cases)} wrong uses are refused in words")


def main():
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "messages.gdl")
        with open(program, "w") as file:
            file.write(GRAPH)
        install(os.path.join(ROOT, "examples", "digits.gdl"), os.path.join(folder, "digits"))
        install(program, os.path.join(folder, "messages"), "--grad", "2", "--dtype", "f64")
        on_numpy()
        try:
            import torch  # noqa: F401
        except ImportError:
            if os.environ.get("GDL_TEST_TORCH"):
                raise
            print("torch is not installed: the part on PyTorch was left out")
            return
        on_torch()


if __name__ == "__main__":
    main()
