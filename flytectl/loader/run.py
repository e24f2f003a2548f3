"""Runs the loader: arguments → SDK → the user's file → one JSON document on a descriptor."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import json
import os
import site
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import bundle, environments, given, image, module, sdk, translate
from .failure import LoadError

if TYPE_CHECKING:
    from .module import Source

VERSION = 1
_OBJECTS_UNTIL_COLLECTED = 200_000  # modules are never garbage: Python's 2,000 cost a twentieth
NO_ANSWER = 70  # an exit status; flytectl prints the error (load.py)


def main(argv: list[str]) -> int:
    """Run once, and end the process with status 0 when a document is written, also one with an error."""
    args = _arguments(argv)
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTED, *gc.get_threshold()[1:])
    for fd in (args.out_fd, args.bundles_fd):
        os.set_inheritable(fd, False)  # noqa: FBT003 -- no program that the user's file starts may hold our answer
    try:
        document = _document(args)
    except LoadError as error:
        document = error.document()
    except Exception as error:  # noqa: BLE001 -- the last line of defence: no user should see our traceback
        document = LoadError(
            "sdk",
            f"flytectl cannot use this Flyte SDK: {type(error).__name__}: {error}",
            hint=f"flytectl was made for flyte {sdk.KNOWN}",
        ).document()
    _write(args.out_fd, json.dumps(document, ensure_ascii=True, allow_nan=False).encode())
    _leave()
    return 0


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loader", allow_abbrev=False)
    parser.add_argument("file")
    parser.add_argument("--out-fd", type=int, required=True)
    parser.add_argument("--bundles-fd", type=int, required=True)
    parser.add_argument("--env")
    parser.add_argument("--sdk")
    parser.add_argument("--root")
    parser.add_argument("--parameter", action="append", default=[])
    parser.add_argument("--project", default="default")
    parser.add_argument("--domain", default="development")
    return parser.parse_args(argv)


def _document(args: argparse.Namespace) -> dict[str, Any]:
    source = module.locate(args.file, args.root)
    sdk.use(args.sdk)
    version = sdk.load()
    sdk.initialise(source.root, args.project, args.domain)
    before = _process_and_files(args)
    known = set(sys.modules)
    loaded = module.load(source)
    if _process_and_files(args) != before:
        os._exit(NO_ANSWER)
    # The file may have called flyte.init itself, with another root.
    sdk.initialise(source.root, args.project, args.domain)
    _tell_what_is_left_out(source, known)
    chosen = environments.choose(loaded, args.env)
    environments.settle(chosen)
    given.give(chosen, args.parameter)
    bundles = _Bundles(source)
    apps = [_app(each, bundles, source, (args.project, args.domain)) for each in chosen]
    _tell_what_is_not_sent(source, bundles)
    return {
        "v": VERSION,
        "sdk": version,
        "python": sys.version.split()[0],
        "executable": sys.executable,
        "root": str(source.root),
        "apps": apps,
        "tasks": environments.tasks(chosen),
        "bundles": bundles.write(args.bundles_fd),
    }


def _tell_what_is_left_out(source: Source, known: set[str]) -> None:
    """Warn the user of modules outside the root: they work here, but would be missing where the app runs."""
    places = {name: getattr(sys.modules.get(name), "__file__", None) for name in set(sys.modules) - known}
    files = {name: os.path.realpath(file) for name, file in places.items() if file}
    libraries = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    libraries += ["/usr", sys.prefix]
    left = bundle.outside(source.root, files, libraries)
    for name, file in sorted(left.items()):
        root = os.path.commonpath([source.root, Path(file).parent])
        sys.stderr.write(f"note: {name} ({file}) is outside {source.root} and not sent: see --root-dir {root}\n")


def _tell_what_is_not_sent(source: Source, bundles: _Bundles) -> None:
    """Warn the user of data folders that are not in the bundle.

    Flyte sends only modules and the files of ``include=``, and a missing file would be noticed only at a request.
    """
    names = {name for made in bundles.made for name in made.names}
    left = bundle.unsent(source.file.parent, source.root, names)
    if left:
        folders = ", ".join(f"{name}/" for name in left)
        sys.stderr.write(f"note: {folders} beside {source.file.name} is not sent: if the app reads it, add ")
        sys.stderr.write(f"include={left} to its environment\n")


def _process_and_files(args: argparse.Namespace) -> list[int]:
    """Return numbers that change if the file forked, so that only one process answers, or closed our descriptors."""
    try:
        return [os.getpid(), os.fstat(args.out_fd).st_ino, os.fstat(args.bundles_fd).st_ino]
    except OSError:
        return []


def _app(found: environments.Found, bundles: _Bundles, source: Source, scope: tuple[str, str]) -> dict[str, Any]:
    translate.check(found)
    environment = found.environment
    chosen = image.resolve(environment, source.root)
    described = image.Described({}, {}, {}) if chosen is None else image.describe(environment, chosen)
    environment.image = chosen
    index = bundles.index(environments.with_dependencies(found))
    return {
        "variable": found.variable,
        "idl": translate.to_idl(found, bundles.made[index], source.root, scope),
        "image": None if chosen is None else described.spec,
        "image_files": described.files,
        "image_folders": {path: bundles.add(data) for path, data in described.folders.items()},
        "depends_on": environments.depends_on(found),
        "bundle": index,
        "kind": environments.kind(environment),
        "server": getattr(environment, "_server", None) is not None,
    }


class _Bundles:
    """The different bundles of a file, each once: apps of a file mostly share one."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.made: list[bundle.Bundle] = []
        self._by_include: dict[tuple[str, ...], int] = {}

    def index(self, needed: list[Any]) -> int:
        include = tuple(sorted({f"{getattr(e, '_declaring_file', '')}\0{path}" for e in needed for path in e.include}))
        if include not in self._by_include:
            new = bundle.build(self.source.root, self.source.file, needed)
            if new not in self.made:
                self.made.append(new)
            self._by_include[include] = self.made.index(new)
        return self._by_include[include]

    def add(self, data: bytes) -> str:
        """Keep a bundle of an image's files; return its digest."""
        new = bundle.Bundle(data, ())
        if all(new.sha256 != made.sha256 for made in self.made):
            self.made.append(new)
        return new.sha256

    def write(self, fd: int) -> list[dict[str, Any]]:
        """Write all bundles, one after the other; return the offset, size and digest of each.

        Raise LoadError("bundle") if together they have more than ``bundle.LARGEST`` bytes.
        """
        if (size := sum(len(each.data) for each in self.made)) > bundle.LARGEST:
            raise LoadError(
                "bundle",
                f"the code of the apps and the files of their images are {size >> 20} MiB, compressed; "
                f"at most {bundle.LARGEST >> 20} MiB can be sent at once",
                hint=f"serve one app at a time (flytectl serve FILE ENV), or {bundle.SMALLER}",
            )
        places, offset = [], 0
        for each in self.made:
            _write(fd, each.data)
            places.append({"offset": offset, "size": len(each.data), "sha256": each.sha256})
            offset += len(each.data)
        return places


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _leave() -> None:
    """End the process immediately: threads that the file started could keep Python alive."""
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001 -- the file may remove its temporary folders in such functions
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # the user's file closed or replaced it
    os._exit(0)
