"""Wheels as tars of what they install, for images whose layers no packer of ours has touched.

tars.py WHEELS OUT N           N tars of mixed sizes in OUT, each of whole wheels or of a stretch of a large one
tars.py --join OUT TAR...      one tar of all
"""

import pathlib
import sys
import tarfile
import zipfile

PLACE = "usr/local/lib/python3.11/dist-packages/"


def members(wheels):
    """Every file of every wheel, wheel by wheel."""
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield archive, info


def split(wheels, out, count):
    total = sum(info.file_size for _, info in members(wheels))
    tar, done, number = None, 0, -1
    for archive, info in members(wheels):
        # Layer n ends where n² of count² of the bytes are: sizes from small to large.
        if tar is None or (done > total * ((number + 1) / count) ** 2 and number + 1 < count):
            if tar:
                tar.close()
            number += 1
            tar = tarfile.open(out / f"{number:02}.tar", "w", format=tarfile.GNU_FORMAT)
        entry = tarfile.TarInfo(PLACE + info.filename)
        entry.size, entry.mode = info.file_size, 0o644
        with archive.open(info) as content:
            tar.addfile(entry, content)
        done += info.file_size
    tar.close()


def join(out, tars):
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as whole:
        for name in tars:
            with tarfile.open(name) as part:
                for entry in part:
                    whole.addfile(entry, part.extractfile(entry) if entry.isreg() else None)


if sys.argv[1] == "--join":
    join(sys.argv[2], sys.argv[3:])
else:
    split(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]))
