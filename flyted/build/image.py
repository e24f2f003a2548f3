"""One image: a venv at its final place, filled layer by layer; ``image.json`` comes last and says that it is whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from . import tree
from .failed import EX_IOERR, Failed, say
from .pythons import Python, choose
from .uv import Uv


def build(uv: Uv, recipe: dict[str, Any], root: Path) -> None:
    """Makes the image of ``recipe`` at ``root``; nothing to do if it is there and whole. Raises :class:`Failed`.

    After a failure ``root`` is gone: a half image takes room and helps nobody, what was fetched stays in the cache.
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
            built = _fill(uv, recipe, root, python)
            record = {**_record(recipe, root, python), "built": built}
            _write(root / tree.RECORD, record)
        except BaseException:
            tree.empty(root)
            root.rmdir()
            raise
        say(f"image {root.name} is ready: {record['packages']} packages, {time.monotonic() - started:.1f} s")


def remove(root: Path) -> None:
    """Removes an image; it need not be there. Raises :class:`Failed` while it is being built."""
    if not root.exists():
        return
    with tree.locked(root, wait=False):
        tree.empty(root)
        root.rmdir()


def is_whole(root: Path, recipe: dict[str, Any]) -> bool:
    """Whether ``root`` is this recipe's image, with all its files, and a Python that runs."""
    try:
        record = json.loads((root / tree.RECORD).read_text())
        known = record["recipe"] == recipe and isinstance(record["built"], list)
        if not known or record["stamp"] != tree.stamp(root):
            return False
        return bool(_python_version(root))
    except (OSError, ValueError, KeyError, TypeError, subprocess.CalledProcessError):
        return False


def _fill(uv: Uv, recipe: dict[str, Any], root: Path, python: Python) -> list[str]:
    """Installs layer by layer; returns what uv built from source, running its code: people may want to know."""
    built: list[str] = []
    words = ["--quiet", "--no-project", "--no-python-downloads", "--python", python.path]
    uv.run("the environment", "venv", *words, str(root))
    for number, install in enumerate(recipe["installs"]):
        source, requirements = install["source"], install["requirements"]
        say(f"{source}: {_shortly(requirements)}")
        listed = uv.scratch / f"requirements-{number}.txt"
        listed.write_text("\n".join(requirements) + "\n")
        words = ["--python", str(root / "bin/python"), "--requirements", str(listed)]
        lines = uv.run(source, "pip", "install", *words, *install["options"])
        built += [line.split()[1] for line in lines if re.fullmatch(r"\s+Built \S+( @ \S+)?", line)]
    _compile(root)
    tree.make_readable(root)
    return built


def _compile(root: Path) -> None:
    """Byte code for all of it: apps cannot write their image, so without it each of their starts would compile again.

    After all layers and not with each (uv could): a misspelt package in the last one is then told seconds earlier.
    Without ``site``, whose .pth files are code: a build of wheels alone runs no code of theirs.
    """
    say("compiling to byte code")
    command = [str(root / "bin/python"), "-I", "-S", "-m", "compileall", "-q", "-j", "0", str(root / "lib")]
    # its complaints are not ours: packages ship templates and tests that are no valid Python
    subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)


def _shortly(requirements: list[str]) -> str:
    names = [line.partition(" --hash=")[0] for line in requirements]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _record(recipe: dict[str, Any], root: Path, python: Python) -> dict[str, Any]:
    return {
        "format": recipe["format"],
        "hash": root.name,
        "python_asked": recipe["python"],
        "python": _python_version(root),
        "note": python.note,
        "packages": tree.count_packages(root),
        "built_at": time.time(),
        "stamp": tree.stamp(root),
        "recipe": recipe,
    }


def _python_version(root: Path) -> str:
    command = [str(root / "bin/python"), "-I", "-S", "-c", "import platform; print(platform.python_version())"]
    done = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.stdout.strip()


def _write(path: Path, record: dict[str, Any]) -> None:
    # the record must not reach the disk before the files that it vouches for, should the power fail now
    os.sync()
    part = path.with_name(".image.json.part")
    try:
        with part.open("x") as file:
            json.dump(record, file, ensure_ascii=True)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        raise Failed(EX_IOERR, f"{path} cannot be written: {error.strerror}") from error
