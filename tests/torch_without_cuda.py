"""Makes PyTorch's package for CUDA importable where CUDA's libraries are not: for tests on the CPU, and on a simulated GPU (`python_cuda.py`).

    pip install --no-deps torch && pip install filelock typing-extensions sympy networkx jinja2 fsspec setuptools
    python tests/torch_without_cuda.py

The dynamic linker wants a file for each library that PyTorch was linked with, and in it the symbols that it binds at once. This writes such files, whose functions
all return 100 (`cudaErrorNoDevice`), where PyTorch looks for the real ones; a file that is there already stays. Needs `cc` and `readelf`.
"""

import collections
import glob
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile

# Where PyTorch's libraries look for CUDA's, from the folder of packages.
FOLDER = os.path.join("nvidia", "cu13", "lib")


def read(*arguments):
    return subprocess.run(["readelf", "-W", *arguments], capture_output=True, text=True, check=True).stdout


def wanted(folder):
    """The libraries that are needed and are not there, the symbols of each by their version, and those without a version that nobody has."""
    files = glob.glob(os.path.join(folder, "*.so*"))
    needed, versions, free, defined = set(), collections.defaultdict(lambda: collections.defaultdict(set)), set(), set()
    for file in files:
        needed.update(re.findall(r"\(NEEDED\).*\[(lib(?:cu|nv|nccl)[^\]]*)\]", read("-d", file)))
        of_version = {}
        for part in re.split(r"\n(?=.*File: )", read("-V", file))[1:]:
            library = re.search(r"File: (\S+)", part)[1]
            of_version.update({version: library for version in re.findall(r"Name: (\S+)", part)})
        for line in read("--dyn-syms", file).splitlines():
            words = line.split()
            if len(words) < 8 or not words[0].endswith(":"):
                continue
            name, _, version = words[7].partition("@")
            if words[6] != "UND":
                defined.add(name)
            elif version and of_version.get(version.strip("@")) in needed:
                versions[of_version[version.strip("@")]][version.strip("@")].add(name)
            elif not version:
                free.add(name)
    # the driver's own is not made: whoever asks for a GPU is to learn that there is none
    return needed - {os.path.basename(f) for f in files} - {"libcuda.so.1"}, versions, free - defined


def main():
    packages = sysconfig.get_path("purelib")
    if not os.path.isdir(os.path.join(packages, "torch", "lib")):
        raise SystemExit(f"PyTorch is not in {packages}: install it first")
    for tool in ["cc", "readelf"]:
        if shutil.which(tool) is None:
            raise SystemExit(f"`{tool}` is not on the PATH: install a C compiler and binutils")
    needed, versions, free = wanted(os.path.join(packages, "torch", "lib"))
    # a symbol without a version is found wherever it is
    free = {name for name in free if re.match(r"cu|nccl|nv|_*cuda", name)}
    out = os.path.join(packages, FOLDER)
    os.makedirs(out, exist_ok=True)
    for library in sorted(needed):
        to = os.path.join(out, library)
        if os.path.exists(to):
            continue
        plain, free = free, set()
        names = plain.union(*versions[library].values())
        with tempfile.TemporaryDirectory() as folder:
            source, script = os.path.join(folder, "stub.c"), os.path.join(folder, "stub.map")
            with open(source, "w") as file:
                file.writelines(f"int {name}(void) {{ return 100; }}\n" for name in sorted(names))
                file.write("typedef int not_empty;\n")
            with open(script, "w") as file:
                for version, of_version in versions[library].items():
                    file.write(f"{version} {{ global: {' '.join(f'{name};' for name in sorted(of_version))} }};\n")
            options = [f"-Wl,--version-script={script}"] if versions[library] else []
            subprocess.run(["cc", "-shared", "-fPIC", "-w", "-fno-builtin", "-o", to, source, f"-Wl,-soname,{library}", *options], check=True)
        print(f"{library}: {len(names)} symbols")


if __name__ == "__main__":
    main()
