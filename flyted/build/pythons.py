"""Chooses an image's Python: the one asked for if it is here or can be fetched, else the nearest one, with a note."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .failed import Failed, say
from .fetches import Failures
from .uv import Uv, reason
from .words import EX_CONFIG, EX_UNAVAILABLE

OLDEST = (3, 10)  # what the launcher and Flyte's SDK need
_RELEASE = """
import importlib.util, platform, sys
print(platform.python_version(), sys.implementation.cache_tag, importlib.util.MAGIC_NUMBER.hex())
"""
_FETCH_S = 300.0
_FETCH_RETRIES = {"UV_HTTP_RETRIES": "1"}  # another image tries again; without a network it should fail soon


@dataclass(frozen=True)
class Python:
    """An interpreter. ``note`` says why it is not the one that was asked for; it is empty if it is."""

    path: str
    version: tuple[int, int]
    note: str = ""

    def keep(self, file: Path) -> None:
        """Write the choice to ``file`` for the isolated build that continues this one: it cannot fetch a Python."""
        file.write_text(json.dumps([self.path, self.version, self.note]))

    @staticmethod
    def kept(file: Path) -> Python:
        """Return the choice that :meth:`keep` wrote to ``file``. Raises :class:`Failed` if it cannot be read."""
        try:
            path, (major, minor), note = json.loads(file.read_text())
            return Python(path, (major, minor), note)
        except (OSError, ValueError, TypeError) as error:
            raise Failed(EX_CONFIG, f"an isolated build can only continue another build: {error}") from error


@dataclass(frozen=True)
class Release:
    """What an interpreter says of itself."""

    version: str  # "3.13.5"
    cache_tag: str  # of the files in __pycache__: "cpython-313"
    magic: str  # of the byte code that it reads, as hex digits


def release_of(python: Python) -> Release:
    """Run an interpreter, without ``site``, and return its version."""
    command = [python.path, "-I", "-S", "-c", _RELEASE]
    done = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return Release(*done.stdout.split())


def choose(uv: Uv, asked: str) -> Python:
    """Return the interpreter for an image that asks for ``asked`` ("3.12").

    Raises :class:`Failed` if none is new enough, or uv cannot be run or cannot read its settings.
    """
    version = _version(asked)
    path = _find(uv, asked)
    if path:
        return Python(path, version)
    found = nearest(version, _installed(uv))
    failures = Failures(uv)
    why = failures.of(asked) if found else ""  # without another Python this build fails, and will be tried again
    if why:
        say(f"Python {asked} is not installed, and could not be downloaded a short time ago")
    else:
        say(f"Python {asked} is not installed; downloading it")
        words = ["install", f"cpython@{asked}", "--no-bin", "--compile-bytecode"]
        status, _, error = uv.ask("python", *words, timeout=_FETCH_S, more=_FETCH_RETRIES)
        path = _find(uv, asked)
        if path:
            return Python(path, version)
        why = reason(error.splitlines()) if status else "it was downloaded, but does not run on this machine"
        failures.add(asked, why)
    if found is None:
        raise Failed(
            EX_UNAVAILABLE,
            f"Python {asked} could not be downloaded ({why}), and this machine has no Python 3.10 or newer",
        )
    used = "{}.{}".format(*found.version)
    return Python(found.path, found.version, f"Python {asked} could not be downloaded ({why}); using {used} instead")


def nearest(asked: tuple[int, int], found: Iterable[Python]) -> Python | None:
    """Return the version nearest to ``asked`` that is new enough, or ``None``.

    Of two that are equally near it is the newer, which still reads the older's code.
    """
    fit = [python for python in found if python.version >= OLDEST and python.version[0] == asked[0]]
    return min(fit, key=lambda python: (abs(python.version[1] - asked[1]), -python.version[1]), default=None)


def _find(uv: Uv, asked: str) -> str:
    words = ["find", f"cpython@{asked}", "--no-python-downloads", "--system", "--no-project"]
    status, output, error = uv.ask("python", *words)
    if status and "uv.toml" in error:  # if only this Python were missing, uv would say something else
        raise Failed(EX_CONFIG, f"uv cannot read its settings: {reason(error.splitlines())}")
    return output.strip() if status == 0 else ""


def _installed(uv: Uv) -> list[Python]:
    _, output, _ = uv.ask("python", "list", "--only-installed", "--output-format", "json")
    try:
        rows = json.loads(output or "[]")
        return [
            Python(row["path"], (row["version_parts"]["major"], row["version_parts"]["minor"]))
            for row in rows
            if row["implementation"] == "cpython" and row["variant"] == "default"
        ]
    except (ValueError, KeyError, TypeError):
        return []


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)
