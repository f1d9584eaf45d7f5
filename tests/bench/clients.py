#!/usr/bin/env python3
"""clients.py HOST:PORT IDLE SLOW PID: opens so many connections that do nothing and so many uploads that trickle, to a
registry whose process is PID, and prints how long that takes and how soon another client is answered beside them."""

import hashlib
import http.client
import socket
import sys
import threading
import time

host, port = sys.argv[1].rsplit(":", 1)
idle, slow, pid = (int(argument) for argument in sys.argv[2:])


def connect():
    return socket.create_connection((host, int(port)), timeout=30)


def ask(method, path, body=None):
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request(method, path, body=body, headers={} if body is not None else {"Content-Length": "0"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def upload():
    location = ask("POST", "/v2/a/b/blobs/uploads/").getheader("Location")
    connection = connect()
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\na"
    connection.sendall(head.encode())
    return connection


def times(what, count=200):
    """Each on a connection of its own, as a client's first request is."""
    took = []
    for _ in range(count):
        begun = time.monotonic()
        assert ask("GET", "/v2/").status == 200
        took.append(1000 * (time.monotonic() - begun))
    took.sort()
    print(f"{what}: {took[count // 2]:.2f} ms in the middle, {took[-1]:.2f} ms at most")


def memory():
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))


def trickle(uploads):
    """A byte each, again and again."""
    while uploads:
        for connection in uploads:
            try:
                connection.sendall(b"a")
            except OSError:
                pass
        time.sleep(0.5)


print(f"memory at the beginning: {memory()} MB")
times("alone")
begun = time.monotonic()
connections = [connect() for _ in range(idle)]
print(f"{idle} idle connections opened in {time.monotonic() - begun:.2f} s")
times("beside them")
print(f"memory: {memory()} MB")
begun = time.monotonic()
uploads = [upload() for _ in range(slow)]
print(f"{slow} slow uploads begun in {time.monotonic() - begun:.2f} s")
threading.Thread(target=trickle, args=(uploads,), daemon=True).start()
times("beside both")
content = b"x" * 1_000_000
begun = time.monotonic()
location = ask("POST", "/v2/a/b/blobs/uploads/").getheader("Location")
digest = "sha256:" + hashlib.sha256(content).hexdigest()
assert ask("PUT", f"{location}?digest={digest}", content).status == 201
print(f"an upload of 1 MB beside both: {1000 * (time.monotonic() - begun):.2f} ms")
print(f"memory: {memory()} MB")
