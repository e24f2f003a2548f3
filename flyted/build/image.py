"""Makes an image: a venv at its final place, filled layer by layer. ``image.json``, made last, marks it complete.

A build that has to run a package's code downloads everything again, to a cache of its own: 140 MB. Copies for
everybody would cost every image that disk space. An image whose packages another image already has takes 4 MB of
disk, and less than half the time that uv alone needs to install and compile them (measured side by side,
``benchmarks/images.py``). If no other image has compiled them yet, it takes 40 MB and up to one and a half times as
long as uv.

uv resolves each layer against what the layers before it installed, as a container build does. One resolution for all
layers would save a tenth of a second of CPU time and a round trip to the index. But where a later layer contradicts
an earlier one, it would choose other versions, or find none.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from . import bytecode, tree
from .failed import Failed, NeedsSource, say
from .pythons import Python, Release, choose, release_of
from .uv import Uv
from .words import EX_INSTALL, EX_IOERR, RECORD

_CHOSEN = ".python.json"  # in the image's folder: the Python that a build chose, for the isolated build that continues it
_ASKS_AGAIN = {"--no-cache", "--refresh", "--reinstall", "--reinstall-package", "--upgrade", "--upgrade-package"}
"""Options with which uv starts the environment's Python again, which runs .pth files of earlier layers (measured)."""


_INDEXES = {"--default-index": "--index-url", "--index": "--extra-index-url", "--find-links": "--find-links"}
"""uv's options that take an address, and how a requirements file spells them."""


def build(uv: Uv, recipe: dict[str, Any], root: Path) -> None:
    """Make the image of ``recipe`` at ``root`` from wheels only; do nothing if it is there and complete.

    No code of a package runs here: this build can write uv's cache and the byte code, whose files other images share by
    hard links.
    Raises :class:`NeedsSource` if code of a package has to run: :func:`build_isolated` then continues, in another unit.
    Raises :class:`Failed` for other failures, after which ``root`` is gone: half an image takes room and is of no use.
    What was fetched stays in the cache.
    """
    with tree.locked(root):
        if is_whole(root, recipe):
            say(f"image {root.name} is complete")
            return
        started = time.monotonic()
        tree.empty(root)
        try:
            python = choose(uv, recipe["python"])
            if python.note:
                say(python.note)
            _make(uv, recipe, root, python, isolated=False)
        except NeedsSource:
            tree.empty(root)
            python.keep(root / _CHOSEN)
            raise
        except BaseException:
            tree.empty(root)
            root.rmdir()
            raise
        _told(root, started)


def build_isolated(uv: Uv, recipe: dict[str, Any], root: Path) -> None:
    """Make the image as :func:`build` does, but build packages from source too, which runs their code.

    So nothing but ``root`` may be writable here, and uv gets a new cache below ``root``, which is deleted when the
    image is done. Raises :class:`Failed`; after a build that failed ``root`` is empty.
    """
    with tree.locked(root):
        started = time.monotonic()
        python = Python.kept(root / _CHOSEN)
        tree.empty(root)
        try:
            own = dataclasses.replace(uv, cache=root / ".uv")
            _make(own, recipe, root, python, isolated=True)
        except BaseException:
            tree.empty(root)
            raise
        _told(root, started)


def _make(uv: Uv, recipe: dict[str, Any], root: Path, python: Python, *, isolated: bool) -> None:
    built, took = _fill(uv, recipe, root, python, isolated=isolated)
    if isolated:
        shutil.rmtree(uv.cache)
    # after all layers, not with each one: a misspelt package in the last layer is then reported seconds earlier
    say("compiling to byte code")
    release = release_of(python)
    compiled = bytecode.compile_all(root, python, release, uv.images / bytecode.STORE, uv.scratch)
    tree.make_readable(root)
    made = {"built": built, "seconds": took, "bytes": tree.size(root)}
    _write(root / RECORD, {**_record(recipe, root, python, release), **made})
    if not isolated:
        bytecode.share(compiled)


def _told(root: Path, started: float) -> None:
    say(f"image {root.name} is ready: {tree.count_packages(root)} packages, {time.monotonic() - started:.1f} s")


def remove(root: Path) -> None:
    """Remove an image, if it is there. Raises :class:`Failed` while it is being built."""
    if not root.exists():
        return
    with tree.locked(root, wait=False):
        tree.empty(root)
        root.rmdir()


def is_whole(root: Path, recipe: dict[str, Any]) -> bool:
    """Report whether ``root`` is this recipe's image, with all its files, and its Python is still on this machine.

    Nothing of the image is run: code of a package may have made it.
    """
    try:
        record = json.loads((root / RECORD).read_text())
        known = record["recipe"] == recipe and isinstance(record["built"], list)
        return bool(known and record["stamp"] == tree.stamp(root) and os.access(root / "bin/python", os.X_OK))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _fill(
    uv: Uv, recipe: dict[str, Any], root: Path, python: Python, *, isolated: bool
) -> tuple[list[str], list[float]]:
    """Install layer by layer.

    Returns what uv built from source, running its code, which users may want to know, and the seconds of each layer.
    """
    built: list[str] = []
    took: list[float] = []
    words = ["--quiet", "--no-project", "--no-python-downloads", "--python", python.path]
    words += ["--allow-existing"] if isolated else []  # uv makes its cache in ``root`` first
    uv.run("the environment", "venv", *words, str(root))
    pristine = tree.interpreter(root)
    for number, install in enumerate(recipe["installs"]):
        source, requirements, options = install["source"], install["requirements"], install["options"]
        if not isolated and number and _ASKS_AGAIN & set(options):
            raise NeedsSource(f"{source} starts the environment's Python")
        say(f"{source}: {_shortly(requirements)}")
        started = time.monotonic()
        listed = uv.scratch / f"requirements-{number}.txt"
        words, indexes = _split(options)
        listed.write_text("\n".join([*indexes, *requirements]) + "\n")
        words = ["--python", str(root / "bin/python"), "--requirements", str(listed), *words]
        if not isolated and "--no-build" not in options:
            words += ["--only-binary", ":all:"]
        lines = uv.run(source, "pip", "install", *words)
        took.append(round(time.monotonic() - started, 2))
        built += [line.split()[1] for line in lines if re.fullmatch(r"\s+Built \S+( @ \S+)?", line)]
        if not isolated and tree.interpreter(root) != pristine:
            raise Failed(EX_INSTALL, f"{source}: a package replaces the environment's Python")
    return built, took


def _split(options: list[str]) -> tuple[list[str], list[str]]:
    """Split options into those for the command line and, as lines of a requirements file, those that name a secret.

    uv replaces ``${NAME}`` in a requirements file. On the command line it does not, and everybody could read a value.
    """
    words, lines = [], []
    queue = iter(options)
    for option in queue:
        following = next(queue) if option in _INDEXES else ""
        if "${" in following:
            lines.append(f"{_INDEXES[option]} {following}")
        else:
            words += [option, following] if following else [option]
    return words, lines


def _shortly(requirements: list[str]) -> str:
    names = [line.partition(" --hash=")[0] for line in requirements]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _record(recipe: dict[str, Any], root: Path, python: Python, release: Release) -> dict[str, Any]:
    return {
        "format": recipe["format"],
        "hash": root.name,
        "python_asked": recipe["python"],
        "python": release.version,
        "note": python.note,
        "packages": tree.count_packages(root),
        "built_at": time.time(),
        "stamp": tree.stamp(root),
        "recipe": recipe,
    }


def _write(path: Path, record: dict[str, Any]) -> None:
    # if the power fails now, the record must not be on the disk without the files that it vouches for
    os.sync()
    part = path.with_name(f".{RECORD}.part")
    try:
        with part.open("x") as file:
            json.dump(record, file, ensure_ascii=True)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        raise Failed(EX_IOERR, f"{path} cannot be written: {error.strerror}") from error
