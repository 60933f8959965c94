"""Makes a wheel of the packages beside this file. Nothing is compiled, nothing is downloaded."""
import base64
import hashlib
import os
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))


def _project():
    with open(os.path.join(HERE, "pyproject.toml"), encoding="utf-8") as file:
        lines = [line.split(" = ") for line in file if " = " in line]
    values = {key: value.strip().strip('"') for key, value in lines}
    return values["name"], values["version"], values["packages"].split()


def _files(packages):
    for package in packages:
        folder = os.path.join(HERE, package)
        for file in sorted(os.listdir(folder)):
            path = os.path.join(folder, file)
            if os.path.isfile(path):
                with open(path, "rb") as content:
                    yield f"{package}/{file}", content.read()


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name, version, packages = _project()
    info = f"{name}-{version}.dist-info"
    tag = "py3-none-linux_x86_64"
    files = list(_files(packages))
    files.append((f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()))
    files.append((f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: gdlc\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()))
    record = []
    for path, content in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(content)}\n")
    record.append(f"{info}/RECORD,,\n")
    files.append((f"{info}/RECORD", "".join(record).encode()))
    wheel = f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files:
            archive.writestr(path, content)
    return wheel
