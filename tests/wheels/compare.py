#!/usr/bin/env python3
"""Compares the installed form of wheels with what pip makes of them, file by file.

For each wheel, pip installs it into a fresh virtual environment (without pip, made anew at the same path), and the
example `install_wheel` writes its tree to a directory. Paths, kinds, modes and bytes have to be the same; RECORD, being
a file, is among them, unless it is right and pip's is not. Directories that the environment has by itself are left out
on pip's side.

    compare.py --installer target/debug/examples/install_wheel --venv DIR WHEEL...
"""

import argparse
import base64
import csv
import difflib
import hashlib
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import venv

SYSTEM = {"etc", "share", "share/man", *(f"share/man/man{section}" for section in range(1, 9)), "share/doc", "src"}
SYSTEM |= {"share/applications", "share/icons", "share/info", "share/locale", "libexec", "sbin", "games", "man", "var"}


def entries(root: pathlib.Path) -> dict[str, tuple]:
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = pathlib.Path(directory, name)
            info = path.lstat()
            kind = stat.S_IFMT(info.st_mode)
            content = None
            if stat.S_ISREG(info.st_mode):
                with path.open("rb") as file:
                    # Large files are compared by hash, the others so that the difference can be shown.
                    large = info.st_size > 1 << 20
                    content = hashlib.file_digest(file, "sha256").hexdigest() if large else file.read()
            found[str(path.relative_to(root))] = (kind, stat.S_IMODE(info.st_mode), content)
    return found


def with_pip(wheel: pathlib.Path, prefix: pathlib.Path, pip: list[str], umask: int) -> dict[str, tuple]:
    shutil.rmtree(prefix, ignore_errors=True)
    venv.create(prefix, symlinks=True, with_pip=False)
    before = entries(prefix)
    command = [*pip, "--python", str(prefix / "bin/python3"), "install", "--quiet", "--no-deps", "--no-compile"]
    command += ["--no-index", "--disable-pip-version-check", "--find-links", str(wheel.parent)]
    name, version = wheel.name.split("-")[:2]
    command += [f"{name.replace('_', '-').lower()}=={version}"]
    subprocess.run(command, check=True, umask=umask, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    return {path: entry for path, entry in entries(prefix).items() if before.get(path) != entry}


def with_installer(wheel: pathlib.Path, prefix: pathlib.Path, installer: str, options: list[str]) -> dict[str, tuple]:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = prefix / f"lib/python{python}/site-packages"
    with tempfile.TemporaryDirectory() as output:
        command = [installer, "--venv", *options, wheel, site_packages, python, prefix / "bin/python3", output]
        listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).stdout
        paths = {os.path.relpath(line, prefix) for line in listed.splitlines()}
        found = entries(pathlib.Path(output, prefix.relative_to("/")))
        return {path: entry for path, entry in found.items() if path in paths}


def is_right(record: str, found: dict[str, tuple]) -> bool:
    """Whether a RECORD lists the files that there are and no others, with their hashes as they should be written."""
    library = os.path.dirname(os.path.dirname(record))
    listed = {}
    for name, digest, _ in csv.reader(found[record][2].decode().splitlines()):
        listed[os.path.normpath(os.path.join(library, name))] = digest
    for path, digest in listed.items():
        if path not in found:
            return False
        content = found[path][2]
        known = bytes.fromhex(content) if isinstance(content, str) else hashlib.sha256(content).digest()
        if digest and digest != "sha256=" + base64.urlsafe_b64encode(known).decode().rstrip("="):
            return False
    return set(listed) == {path for path, entry in found.items() if stat.S_ISREG(entry[0])}


def differences(pip: dict[str, tuple], own: dict[str, tuple]) -> list[str]:
    found = []
    for path in sorted(pip.keys() | own.keys()):
        a, b = pip.get(path), own.get(path)
        if a is None or b is None:
            # The system's directories, such as share/man, are left out of the tree even where pip makes them.
            if b is None and path in SYSTEM and any(other.startswith(f"{path}/") for other in own):
                continue
            found.append(f"only {'the installer' if a is None else 'pip'} has {path}")
        elif a[:2] != b[:2]:
            found.append(f"{path}: mode {a[0] | a[1]:o} by pip, {b[0] | b[1]:o} by the installer")
        elif a[2] != b[2]:
            if path.endswith(".dist-info/RECORD") and is_right(path, own) and not is_right(path, pip):
                continue
            lines = [[c] if isinstance(c, str) else c.decode(errors="replace").splitlines() for c in (a[2], b[2])]
            diff = list(difflib.unified_diff(*lines, "pip", "installer", n=0, lineterm=""))
            found.append("\n    ".join([f"{path}: content", *diff[:12]]))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--installer", required=True, help="the example install_wheel")
    parser.add_argument("--venv", required=True, type=pathlib.Path, help="made anew for each wheel")
    parser.add_argument("--pip", default=f"{sys.executable} -m pip", help="the pip to compare with")
    parser.add_argument("--pip-version", help="X.Y, if its scripts differ from those of pip 23")
    parser.add_argument("--umask", type=lambda text: int(text, 8), default=0o022)
    parser.add_argument("wheels", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    options = ["--pip", arguments.pip_version] if arguments.pip_version else []
    different = 0
    for wheel in map(pathlib.Path.resolve, arguments.wheels):
        try:
            pip = with_pip(wheel, arguments.venv, arguments.pip.split(), arguments.umask)
            own = with_installer(wheel, arguments.venv, arguments.installer, options)
            found = differences(pip, own)
        except subprocess.CalledProcessError as error:
            found = [str(error), error.stderr or ""]
        if found:
            different += 1
            print(f"DIFFERS {wheel.name}", *found[:20], sep="\n  ", flush=True)
        else:
            print(f"same    {wheel.name} ({len(own)} entries)", flush=True)
    print(f"{len(arguments.wheels) - different} of {len(arguments.wheels)} wheels are the same")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
