"""The Python package of a model: installed by pip from what `gdlc build --bind python` wrote, on NumPy, JAX, ONNX Runtime, TVM-FFI and PyTorch.

Needs GDLC (the compiler), pip, numpy and safetensors. A host that is not installed is left out, with a word, unless GDL_TEST_HOSTS names it.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
DATA = os.path.join(ROOT, "examples", "data")

# expected to be large, so that keeping what the backward pass reads pays
GRAPH = """domain G = graph(n ~ 20000, m ~ 200000)
model Messages(x: G -> 3, e: G.edges -> 2): 2 = {
  y[i] = mlp[4](x[i], max j~i: mlp[4](x[i], x[j], e[i,j]))
  y |> linear 2 |> pool sum
}
"""
# a set, built without derivatives
POOLED = """domain S = set(n)
model Pooled(x: S -> 3): 2 = x |> linear 4 over all |> relu |> pool mean |> linear 2
"""
TABLES = {"senders": [1, 2, 0, 1, 4, 3, 3], "receivers": [0, 0, 1, 2, 3, 4, 4], "index": [0, 0, 0, 1, 1]}


# Energies and forces, whose weights have derivatives of derivatives.
ATOMS = """
domain Atoms = points(n ~ 20, m ~ 100) in R3 under E(3)
model Forces(z: Atoms -> class(4), r: Atoms -> position) = {
  f = linear 4 irreps(0..1) (z)
  repeat 2: f = f + (f |> depthwise irreps(0..1) over 3.0 at r by mlp[8] |> linear 4 irreps(0..1) |> gate)
  energy = f |> linear 1 |> pool sum
  (energy, force = -grad(energy, r))
}
"""


def write_programs(folder):
    """The files of the models of these tests, by name."""
    programs = {}
    for name, text in [("messages", GRAPH), ("pooled", POOLED), ("atoms", ATOMS)]:
        programs[name] = os.path.join(folder, f"{name}.gdl")
        with open(programs[name], "w") as file:
            file.write(text)
    return programs


def install(program, folder, *options):
    """Builds a program's package and installs it with pip, which needs no network and no compiler."""
    out, site = os.path.join(folder, "out"), os.path.join(folder, "site")
    subprocess.run([os.environ["GDLC"], "build", program, "-o", out, "--bind", "python", *options], check=True, stdout=subprocess.PIPE)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", "--target", site, out]
    subprocess.run(pip, check=True)
    sys.path.insert(0, site)


def refused(host, cases):
    """Each call is an error with these words in it."""
    for words, call in cases:
        try:
            call()
        except (RuntimeError, NotImplementedError, TypeError, ValueError, KeyError) as why:
            assert words in str(why), f"{host}: {words}: {why}"
        else:
            raise AssertionError(f"{host}: {words}: no error")
    print(f"{host}: {len(cases)} wrong uses are refused in words")


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
    import pooled.numpy

    call, vjp, other = messages.numpy.call, messages.numpy.vjp, pooled.numpy.initial(1)
    refused("numpy", [
        ("were given", lambda: vjp(weights, [], x, e, **tables)),
        ("were given", lambda: vjp(weights, [cotangent, cotangent], x, e, **tables)),
        ("the size `samples` is 2, and 1 by axis 0 of `grad.y`", lambda: vjp(weights, [cotangent[:1]], x, e, **tables)),
        ("`x` is complex128, and needs float64", lambda: call(weights, x + 1j, e, **tables)),
        ("`x` is <U1, and needs float64", lambda: call(weights, [["a", "b", "c"]] * 5, e, **tables)),
        ("`G.senders` is float64, and needs int32 or int64", lambda: call(weights, x, e, **{**tables, "senders": tables["senders"] + 0.5})),
        ("`G.senders`: element 0 is 5, outside 0..5", lambda: call(weights, x, e, **{**tables, "senders": tables["senders"] + 4})),
        ("`G.receivers` must not decrease", lambda: call(weights, x, e, **{**tables, "receivers": tables["receivers"][::-1]})),
        ("`G.index`: element 4 is -1, outside 0..2", lambda: call(weights, x, e, **{**tables, "index": np.array([0, 0, 0, 1, -1])})),
        ("`G.index` must not decrease", lambda: call(weights, x, e, **{**tables, "index": [0, 0, 1, 1, 0]})),
        ("`x` has 1 axes, not 2", lambda: call(weights, x[0], e, **tables)),
        ("`x`: axis 1 has 2 elements, and needs 3", lambda: call(weights, x[:, :2], e, **tables)),
        ("the input `e` is missing", lambda: call(weights, x, **tables)),
        ("`x` is given twice", lambda: call(weights, x, e, x=x, **tables)),
        ("2 arguments are taken (x, e), 3 were given", lambda: call(weights, x, e, e, **tables)),
        ("neither an input", lambda: call(weights, x, e, neighbours=tables["senders"], **tables)),
        ("the size `n` is 6, and 5 by axis 0 of `x`", lambda: call(weights, x, e, n=6, **tables)),
        ("the size `samples` is -1", lambda: call(weights, x, e, samples=-1, **tables)),
        ("the size `samples` is 2.5, and needs to be a whole number", lambda: call(weights, x, e, samples=2.5, **tables)),
        ("the weight `y.mlp2.1.weight` is missing", lambda: call({}, x, e, **tables)),
        ("build it again with `gdlc build --grad 1`", lambda: pooled.numpy.vjp(other, [cotangent], x)),
        ("build it again with `gdlc build --grad 1`", lambda: pooled.numpy.jvp(other, {"x": x}, x)),
    ])  # fmt: skip
    assert np.array_equal(pooled.numpy.call(other, x), pooled.numpy.call(other, x, index=np.zeros(5, "int32"), samples=1)), "one sample"
    narrow = {name: table.astype("int8") for name, table in tables.items()}
    assert np.array_equal(call(weights, x, e, **narrow), call(weights, x, e, **tables)), "indices of another width"


def present(host):
    """Whether a host is installed; one that GDL_TEST_HOSTS names must be."""
    if importlib.util.find_spec(host) is None:
        if host in os.environ.get("GDL_TEST_HOSTS", "").split():
            raise ImportError(f"{host} is not installed, and GDL_TEST_HOSTS names it")
        print(f"{host} is not installed: its part was left out")
        return False
    return True


def main():
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as folder:
        programs = write_programs(folder)
        install(os.path.join(ROOT, "examples", "digits.gdl"), os.path.join(folder, "digits"), "--grad", "1")
        install(programs["messages"], os.path.join(folder, "messages"), "--grad", "2", "--dtype", "f64")
        install(programs["pooled"], os.path.join(folder, "pooled"), "--dtype", "f64")
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
        if present("tvm_ffi"):
            import python_tvm

            python_tvm.check()
        if present("torch"):
            import python_torch

            python_torch.check()
            import python_weights

            python_weights.check(install, folder)


if __name__ == "__main__":
    sys.modules["python_package"] = sys.modules["__main__"]
    main()
