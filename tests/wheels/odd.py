#!/usr/bin/env python3
"""Makes wheels that are sound and unusual, for `compare.py`: odd names and modes, every directory of .data, scripts
with all kinds of first lines, entry points that replace files and each other.

    odd.py DIR
"""

import base64
import csv
import hashlib
import io
import pathlib
import sys
import zipfile

FILE, EXECUTABLE = 0o100644, 0o100755

ODD_ENTRY_POINTS = """
# scripts
[console_scripts]
cmd = odd:main
 with.dots-1+x = odd.sub:Class.run [extra1, extra2]
both = odd:console
twice = odd:first
twice = odd:second
call = odd:main()
pip3 = odd:pip3
[gui_scripts]
both = odd:gui
gui-é=odd:gui
[other]
no = odd
"""

PIP_ENTRY_POINTS = """[console_scripts]
pip = p:m
pip3 = p:m
pip3.8 = p:m
pip3.8.1 = p:m
pipx = p:m
easy_install = p:e
easy_install-3.8 = p:e
easy_install3.8 = p:e
easy_install-3 = p:e
"""

DATA = "odd-1.0.data"
ODD = {
    "odd/__init__.py": (b"", FILE),
    'odd/na,me "q".txt': (b"x", FILE),
    "odd/é日本.txt": (b"u", FILE),
    "odd/executable": (b"#!", EXECUTABLE),
    "odd/executable-by-others": (b"4", 0o100601),
    "odd/not-regular": (b"n", 0o755),
    "odd/setuid": (b"n", 0o104755),
    "odd/empty/": (b"", 0o040755),
    "odd-1.0.dist-info/INSTALLER": (b"other\n", FILE),
    "odd-1.0.dist-info/RECORD.jws": (b"{}", FILE),
    "odd-1.0.dist-info/entry_points.txt": (ODD_ENTRY_POINTS.encode(), FILE),
    f"{DATA}/scripts/python": (b"#!python\nprint(1)\n", EXECUTABLE),
    f"{DATA}/scripts/pythonw": (b"#!pythonw -x\r\nprint(1)\r\n", FILE),
    f"{DATA}/scripts/one-line": (b"#!python", FILE),
    f"{DATA}/scripts/env": (b"#!/usr/bin/env python\n", EXECUTABLE),
    f"{DATA}/scripts/sub/binary": (b"\x7fELF", EXECUTABLE),
    f"{DATA}/scripts/cmd": (b"#!python\n", EXECUTABLE),
    f"{DATA}/scripts/cmd-script.py": (b"#!python\n", EXECUTABLE),
    f"{DATA}/scripts/cmd.exe": (b"MZ", EXECUTABLE),
    f"{DATA}/data/share/odd/a": (b"a", FILE),
    f"{DATA}/data/etc/odd.conf": (b"a", FILE),
    f"{DATA}/data/share/man/man1/odd.1": (b"a", FILE),
    f"{DATA}/data/top": (b"a", FILE),
    f"{DATA}/headers/a/b.h": (b"h", FILE),
    f"{DATA}/platlib/odd_p.py": (b"p", FILE),
    f"{DATA}/purelib/odd_q.py": (b"q", FILE),
}


def make(directory: pathlib.Path, name: str, files: dict[str, tuple[bytes, int]], purelib: bool = True) -> None:
    info = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": (f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(), FILE),
        f"{info}/WHEEL": (f"Wheel-Version: 1.0\nRoot-Is-Purelib: {purelib}\nTag: py3-none-any\n".encode(), FILE),
    }
    record = io.StringIO()
    writer = csv.writer(record, lineterminator="\n")
    for path, (data, _) in files.items():
        if not path.endswith(("/", ".jws")):
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            writer.writerow([path, f"sha256={digest}", len(data)])
    writer.writerow([f"{info}/RECORD", "", ""])
    files[f"{info}/RECORD"] = (record.getvalue().encode(), 0o100664)
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, (data, mode) in files.items():
            member = zipfile.ZipInfo(path)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED if len(data) % 2 else zipfile.ZIP_STORED
            archive.writestr(member, data)


def main() -> None:
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    make(directory, "odd", ODD)
    entry_points = (PIP_ENTRY_POINTS.encode(), FILE)
    make(directory, "pip_like", {"p.py": (b"", FILE), "pip_like-1.0.dist-info/entry_points.txt": entry_points})
    make(directory, "plat", {"plat.py": (b"", FILE), "plat-1.0.data/purelib/sub/x.py": (b"", FILE)}, purelib=False)


if __name__ == "__main__":
    main()
