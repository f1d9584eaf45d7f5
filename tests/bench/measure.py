#!/usr/bin/env python3
"""measure.py FILE LABEL COMMAND...: runs the command, appends what it took to FILE as a line of JSON.

seconds         wall time
cpu             user and system seconds, of its children too
peak_rss        the largest process's peak in bytes, mapped files counted
peak_anonymous  peak of the memory that no file backs, all its processes together, sampled 20 times a second
written         bytes written to files
"""

import json
import os
import sys
import threading
import time
from pathlib import Path


def processes(pid):
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from processes(int(child))


def anonymous(pid):
    """Bytes; a process that ended meanwhile counts nothing."""
    total = 0
    try:
        for process in processes(pid):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


def sample(pid, peaks, done):
    while not done.wait(0.05):
        peaks.append(max(peaks.pop(), anonymous(pid)))


def main(file, label, *command):
    start = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    peaks, done = [0], threading.Event()
    sampler = threading.Thread(target=sample, args=(pid, peaks, done))
    sampler.start()
    try:
        _, status, usage = os.wait4(pid, 0)
        seconds = time.monotonic() - start
    finally:
        done.set()
        sampler.join()
    result = {
        "label": label,
        "seconds": round(seconds, 3),
        "cpu": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_rss": usage.ru_maxrss * 1024,
        "peak_anonymous": peaks[0],
        "written": usage.ru_oublock * 512,
    }
    with open(file, "a") as results:
        print(json.dumps(result), file=results)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
