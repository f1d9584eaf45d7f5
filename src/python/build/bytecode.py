"""Compiles modules to bytecode that is never checked against its source (PEP 552), inside the sandbox, for Python 3.7
and later.

`/ociforge/files/list.json` names each file and the path that it will have in the image; the bytecode of the file at
place N is left in `/ociforge/out/N.pyc`, and `result.json` says how such files are called and which were left out.
"""
import io
import json
import os
import py_compile
import sys

FILES = "/ociforge/files/"
OUT = "/ociforge/out/"


def compile_one(place, path):
    """What is wrong with the file, or nothing."""
    try:
        py_compile.compile(
            FILES + str(place), cfile="{}{}.pyc".format(OUT, place), dfile=path, doraise=True, optimize=0,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except py_compile.PyCompileError as error:
        return str(error.exc_value)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return str(error)
    return None


def compile_apart(place, path):
    """Compiles in a child, so that nothing which an earlier file has left in memory shows in the bytecode."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            problem = compile_one(place, path)
            os.write(writer, json.dumps(problem and problem[:500]).encode("ascii"))
        finally:
            os._exit(0)
    os.close(writer)
    with io.open(reader, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if not said:
        return "the compiler was ended with status {}".format(status)
    return json.loads(said.decode("ascii"))


def main():
    if not hasattr(py_compile, "PycInvalidationMode"):
        sys.exit("bytecode that is not checked needs Python 3.7 or later; this is " + sys.version.split()[0])
    with io.open(FILES + "list.json", encoding="utf-8") as file:
        paths = json.load(file)
    skipped = []
    for place, path in enumerate(paths):
        problem = compile_apart(place, path)
        if problem is not None:
            skipped.append([place, problem])
    with io.open(OUT + "result.json", "w", encoding="utf-8") as file:
        file.write(json.dumps({"tag": sys.implementation.cache_tag, "skipped": skipped}))


if __name__ == "__main__":
    main()
