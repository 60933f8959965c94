"""The compiled digits called from C and from Python: the logits that torch gave, the same accuracy, errors with words.

Needs GDLC (the compiler), numpy, safetensors and a C compiler (`cc`).
"""

import os
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file, save_file

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
CALL_FROM = os.path.join(ROOT, "examples", "call_from")
DATA = os.path.join(ROOT, "examples", "data")
sys.path.insert(0, os.path.join(CALL_FROM, "python"))

import digits
from library import Library

# f32 against torch in f64: sums of length 25, 1600 and 8, at 5e-6 sqrt(K) of the greatest logit
TOLERANCE = 5e-6 * np.sqrt(25 + 1600 + 8)


def gdlc(*arguments):
    return subprocess.run([os.environ["GDLC"], *arguments], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout


def close(found, expected, what):
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert np.isfinite(found).all() and error < TOLERANCE, f"{what}: relative error {error:.1e}"
    print(f"{what}: relative error {error:.1e}")


def accuracies(logits, data):
    right = logits.argmax(1) == data["labels"]
    return "".join(f"orientation {g}: accuracy {right[data['orientation'] == g].mean():.3f}\n" for g in range(8))


def from_python(folder, data, golden):
    logits = digits.classify(folder, data)
    close(logits[:16], golden["digits.logits"], "python, 16 images against torch")
    for g in range(1, 8):
        close(logits.reshape(8, -1, 10)[g], logits.reshape(8, -1, 10)[0], f"python, orientation {g} against upright")
    library, weights = Library(folder, "digits"), load_file(os.path.join(DATA, "digits.weights.safetensors"))
    bound = library.bound({"x": data["x"]}, weights, logits.shape)
    assert (bound() == logits).all(), "bind, prepare and call give what run gives"
    print("python: bind, prepare and call give what run gives")
    return logits


def errors(folder, data):
    """Wrong tensors are refused with the name of the argument."""
    library, weights = Library(folder, "digits"), load_file(os.path.join(DATA, "digits.weights.safetensors"))
    few = data["x"][:2]
    cases = {
        "rank": ({"x": few[..., 0]}, weights, (2, 10), "x"),
        "dtype": ({"x": few.astype(np.float64)}, weights, (2, 10), "x"),
        "not square": ({"x": few[:, :6]}, weights, (2, 10), "x"),
        "odd size": ({"x": few[:, :7, :7]}, weights, (2, 10), ""),
        "weight": ({"x": few}, weights | {"linear2.bias": np.zeros(7, np.float32)}, (2, 10), "linear2.bias"),
        "output": ({"x": few}, weights, (3, 10), "y"),
    }
    for what, (inputs, given, shape, name) in cases.items():
        try:
            library.run(inputs, given, [np.empty(shape, np.float32)])
        except ValueError as error:
            assert name in str(error), f"{what}: `{name}` is not named in: {error}"
            print(f"refused, {what}: {error}")
        else:
            raise AssertionError(f"{what}: accepted")


def from_c(folder, data, logits):
    program, written = os.path.join(folder, "digits"), os.path.join(folder, "logits.f32")
    source = os.path.join(CALL_FROM, "c", "digits.c")
    subprocess.run(["cc", "-O2", "-Wall", f"-I{folder}", source, f"-L{folder}", "-ldigits", f"-Wl,-rpath,{folder}", "-o", program], check=True)
    printed = subprocess.run([program, DATA, written], check=True, text=True, stdout=subprocess.PIPE).stdout
    assert printed == accuracies(logits, data), printed
    assert (np.fromfile(written, np.float32) == logits.reshape(-1)).all(), "C and Python get the same numbers"
    print("C: the same numbers as Python")


def molecules(folder):
    """Energies of molecules: numpy's and e3nn's, and unchanged when all is turned, mirrored, moved and listed in another order."""
    weights = os.path.join(ROOT, "tests", "golden", "nequip.weights.safetensors")
    expected = load_file(os.path.join(ROOT, "tests", "golden", "nequip_energy.safetensors"))["energy"]
    data = load_file(os.path.join(DATA, "molecules.safetensors"))

    def energy(tensors, name):
        given, result = os.path.join(folder, f"{name}.safetensors"), os.path.join(folder, f"{name}.energy.safetensors")
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, given)
        gdlc("run", "examples/nequip.gdl", "--set", "c=4", "--input", given, "--weights", weights, "-o", result)
        return load_file(result)["energy"].reshape(-1)

    close(energy(data, "as given"), expected, "nequip, energies against numpy and e3nn")
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for what, turn in {"turned": rotation * np.linalg.det(rotation), "mirrored": -rotation * np.linalg.det(rotation)}.items():
        moved = (data["r"] @ turn.T + np.array([3.0, -1.0, 2.0])).astype(np.float32)
        close(energy(data | {"r": moved}, what), expected, f"nequip, {what} and moved")
    new = np.concatenate([rng.permutation(np.nonzero(data["Atoms.index"] == k)[0]) for k in range(40)])  # new place -> old atom
    old = np.argsort(new)
    receivers, senders = old[data["Atoms.receivers"]], old[data["Atoms.senders"]]
    order = np.lexsort((senders, receivers))
    permuted = {"z": data["z"][new], "r": data["r"][new], "Atoms.index": data["Atoms.index"][new]}
    permuted |= {"Atoms.senders": senders[order].astype(np.int32), "Atoms.receivers": receivers[order].astype(np.int32)}
    close(energy(permuted, "permuted"), expected, "nequip, atoms in another order")


def karate(folder):
    """The logits that torch gave."""
    result = os.path.join(folder, "karate.logits.safetensors")
    files = [os.path.join(DATA, f"karate.{word}safetensors") for word in ("", "weights.")]
    gdlc("run", "examples/mpnn.gdl", "--input", files[0], "--weights", files[1], "-o", result)
    expected = load_file(os.path.join(ROOT, "tests", "golden", "karate_logits.safetensors"))["logits"]
    close(load_file(result)["y"].reshape(expected.shape), expected, "karate club, logits against torch")


def main():
    golden = load_file(os.path.join(ROOT, "tests", "golden", "digits_logits.safetensors"))
    data = load_file(os.path.join(DATA, "digits.safetensors"))
    with tempfile.TemporaryDirectory() as folder:
        gdlc("build", "examples/digits.gdl", "-o", folder)
        logits = from_python(folder, data, golden)
        errors(folder, data)
        from_c(folder, data, logits)
        karate(folder)
        molecules(folder)


if __name__ == "__main__":
    main()
