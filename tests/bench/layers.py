#!/usr/bin/env python3
"""layers.py LAYOUT[:TAG] LAYOUT[:TAG]: compares the uppermost layers of two images, entry by entry.

Type, mode, owner, group, link target, extended attributes, time and content must be equal. Files whose content holds
the time at which they were written may differ in content: those are listed below, and counted.
"""

import gzip
import hashlib
import json
import sys
import tarfile
from pathlib import Path

# Logs, and databases that note when they were written.
HOLD_TIMES = (
    "var/log/",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/extended_states",
    "etc/shadow",  # the day of the last change
    "var/lib/dpkg/triggers/",
)


def blob(layout, digest):
    return layout / "blobs" / digest.replace(":", "/")


def uppermost(name):
    directory, _, tag = name.partition(":")
    layout = Path(directory)
    index = json.loads((layout / "index.json").read_text())
    refs = [d for d in index["manifests"] if d["annotations"]["org.opencontainers.image.ref.name"] == tag]
    manifest = json.loads(blob(layout, refs[0]["digest"]).read_text())
    return entries(blob(layout, manifest["layers"][-1]["digest"]))


def entries(path):
    found = {}
    with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for entry in tar:
            content = tar.extractfile(entry).read() if entry.isreg() else b""
            xattrs = {key: value for key, value in entry.pax_headers.items() if key.startswith("SCHILY.xattr.")}
            facts = {
                "type": entry.type,
                "mode": oct(entry.mode),
                "owner": f"{entry.uid}:{entry.gid}",
                "link": entry.linkname,
                "device": (entry.devmajor, entry.devminor),
                "xattrs": xattrs,
                "time": entry.mtime,
            }
            found[entry.name.strip("/")] = (facts, hashlib.sha256(content).hexdigest())
    return found


def main(one, other):
    ours, theirs = uppermost(one), uppermost(other)
    wrong, excused = [], 0
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            wrong.append(f"{name}: only in {one if name in ours else other}")
            continue
        (facts, content), (their_facts, their_content) = ours[name], theirs[name]
        for key in facts:
            if facts[key] != their_facts[key]:
                wrong.append(f"{name}: {key} is {facts[key]!r} and {their_facts[key]!r}")
        if content != their_content:
            if name.startswith(HOLD_TIMES):
                excused += 1
            else:
                wrong.append(f"{name}: other content")
    print("\n".join(wrong[:50]))
    print(f"{len(ours)} and {len(theirs)} entries, {len(wrong)} differences, {excused} contents that hold a time differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
