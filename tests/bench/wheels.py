#!/usr/bin/env python3
"""wheels.py LOCK STORE DIR: gives the wheels of a lock their names again, in DIR, for tools that go by names.

The lock has a URL and a SHA-256 for each; the store has the files, under one or the other.
"""

import os
import re
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit


def wheels(value):
    """Every table with the URL of a wheel, wherever it is in the lock: (file name, SHA-256)."""
    if isinstance(value, dict):
        url = value.get("url")
        if isinstance(url, str) and urlsplit(url).path.endswith(".whl"):
            digest = re.search(r"\b[0-9a-f]{64}\b", str({**value, "url": None}))[0]
            yield unquote(os.path.basename(urlsplit(url).path)), digest
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from wheels(item)


def main(lock, store, directory):
    stored = [path for path in Path(store).rglob("*") if path.is_file()]
    for name, digest in wheels(tomllib.loads(Path(lock).read_text())):
        found = [path for path in stored if name == path.name or digest in path.name]
        if not found:
            sys.exit(f"error: the store {store} has no {name}, sha256:{digest}")
        os.link(found[0], Path(directory, name))


if __name__ == "__main__":
    main(*sys.argv[1:])
