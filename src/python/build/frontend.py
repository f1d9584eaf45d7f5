"""Calls the hooks of a build backend (PEP 517), inside the sandbox, for Python 3.6 and later.

Called with the hook's name. `/ociforge/frontend/job.json` says which backend; what the hook gives is left in
`/ociforge/out`: `result.json`, and for `wheel` the one wheel in `wheel/`.
"""
import csv
import importlib
import io
import json
import os
import shutil
import sys
import zipfile

OUT = "/ociforge/out"
REQUIREMENTS = "/ociforge/requirements"
SOURCE = OUT + "/source"


def isolate(job):
    """Lets this interpreter, and those that the backend starts, see the build requirements and nothing of the user's."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name in ("PYTHONHOME", "PYTHONSTARTUP", "CDPATH"):
            del os.environ[name]
    scripts = REQUIREMENTS + "/bin"
    os.environ["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH") or os.defpath])
    for name in ("HOME", "TMPDIR"):
        os.makedirs(os.environ[name], exist_ok=True)
    # The script's own directory is no place for modules, and the source's is one only where it says so.
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path and os.path.abspath(path) != own]
    import site
    site.addsitedir(REQUIREMENTS)
    sys.path[:0] = [os.path.normpath(os.path.join(SOURCE, path)) for path in job["backend_path"]]
    os.chdir(SOURCE)
    sys.argv[:] = [""]


def load(spec):
    """The backend: `package.module:object.attribute`."""
    module, _, attributes = spec.partition(":")
    try:
        backend = importlib.import_module(module)
    except ImportError as error:
        sys.exit("cannot import the build backend {}: {}".format(module, error))
    for name in filter(None, attributes.split(".")):
        backend = getattr(backend, name)
    return backend


def requires(backend):
    """What the backend needs besides `build-system.requires`."""
    hook = getattr(backend, "get_requires_for_build_wheel", None)
    return [str(requirement) for requirement in hook(None)] if hook else []


def metadata(backend):
    """The text of METADATA; nothing where the backend only knows it when it builds."""
    hook = getattr(backend, "prepare_metadata_for_build_wheel", None)
    if hook is None:
        return None
    directory = fresh("metadata")
    info = hook(directory, None)
    with io.open(os.path.join(directory, info, "METADATA"), encoding="utf-8") as file:
        return file.read()


def wheel(backend):
    """The wheel's file name."""
    directory = fresh("built")
    name = backend.build_wheel(directory, None, None)
    found = sorted(file for file in os.listdir(directory) if file.endswith(".whl"))
    if found == [name]:
        normalize(os.path.join(directory, name), os.path.join(fresh("wheel"), name))
    return {"said": name, "found": found}


def fresh(name):
    directory = os.path.join(OUT, name)
    shutil.rmtree(directory, ignore_errors=True)
    os.mkdir(directory)
    return directory


def normalize(old_path, new_path):
    """Writes the wheel anew, so that files of the same content are the same wheel: sorted, without times."""
    with zipfile.ZipFile(old_path) as old, zipfile.ZipFile(new_path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in sorted(old.infolist(), key=lambda member: member.filename):
            if member.filename.endswith("/"):
                continue
            info = zipfile.ZipInfo(member.filename, (1980, 1, 1, 0, 0, 0))
            executable = (member.external_attr >> 16) & 0o111
            kind = (member.external_attr >> 16) & 0o170000 or 0o100000
            info.create_system = 3
            info.external_attr = (kind | (0o755 if executable else 0o644)) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            large = member.file_size >= 1 << 31
            with old.open(member) as source, new.open(info, "w", force_zip64=large) as target:
                if member.filename.count("/") == 1 and member.filename.endswith(".dist-info/RECORD"):
                    source = io.BytesIO(record(source.read()))
                shutil.copyfileobj(source, target, 1 << 20)


def record(text):
    rows = sorted(row for row in csv.reader(io.StringIO(text.decode("utf-8"), newline="")) if row)
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue().encode("utf-8")


def main():
    hook = {"requires": requires, "metadata": metadata, "wheel": wheel}[sys.argv[1]]
    with io.open("/ociforge/frontend/job.json", encoding="utf-8") as file:
        job = json.load(file)
    isolate(job)
    result = hook(load(job["backend"]))
    sys.stdout.flush()
    with io.open(OUT + "/result.json", "w", encoding="utf-8") as file:
        file.write(json.dumps({"result": result}))


if __name__ == "__main__":
    main()
