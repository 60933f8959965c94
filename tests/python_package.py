"""The Python package of a model: installed by pip from what `gdlc build --bind python` wrote, on NumPy, JAX, ONNX Runtime and PyTorch.

Needs GDLC (the compiler), pip, numpy and safetensors. A host that is not installed is left out, with a word, unless GDL_TEST_HOSTS names it.
"""

import importlib.util
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


def on_numpy(weights, images, logits):
    import digits.numpy

    error = relative(digits.numpy.call(weights, images), logits)
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
    tangent = messages.numpy.jvp(weights, steps, x, e, **tables)
    assert abs((tangent * cotangent).sum() - slope) < 1e-12 * abs(slope)
    print("messages.numpy: derivatives are those of central differences, and the modes are adjoint")
    for wrong, words in [([], "were given"), ([cotangent, cotangent], "were given"), ([cotangent[:1]], "axis 0 has 1 elements, and needs 2")]:
        try:
            messages.numpy.vjp(weights, wrong, x, e, **tables)
        except (TypeError, ValueError) as refusal:
            assert words in str(refusal), refusal
        else:
            raise AssertionError(f"{len(wrong)} cotangents of shapes {[w.shape for w in wrong]} were taken")


def present(host):
    """Whether a host is installed; one that GDL_TEST_HOSTS names must be."""
    if importlib.util.find_spec(host) is None:
        if host in os.environ.get("GDL_TEST_HOSTS", "").split():
            raise ImportError(f"{host} is not installed, and GDL_TEST_HOSTS names it")
        print(f"{host} is not installed: its part was left out")
        return False
    return True


def main():
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "messages.gdl")
        with open(program, "w") as file:
            file.write(GRAPH)
        install(os.path.join(ROOT, "examples", "digits.gdl"), os.path.join(folder, "digits"), "--grad", "1")
        install(program, os.path.join(folder, "messages"), "--grad", "2", "--dtype", "f64")
        weights = load_file(os.path.join(DATA, "digits.weights.safetensors"))
        golden = load_file(os.path.join(ROOT, "tests", "golden", "digits_logits.safetensors"))
        on_numpy(weights, golden["x"], golden["digits.logits"])
        if present("jax"):
            os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
            import python_jax

            python_jax.check(weights, golden["x"], golden["digits.logits"])
        if present("onnxruntime"):
            import python_onnx

            python_onnx.check(weights, golden["x"], golden["digits.logits"], folder)
        if present("torch"):
            import python_torch

            python_torch.check()
            import python_weights

            python_weights.check(install, folder)


if __name__ == "__main__":
    sys.modules["python_package"] = sys.modules["__main__"]
    main()
