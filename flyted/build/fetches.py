"""Remembers for some minutes which Pythons could not be fetched: the images of one machine ask for the same ones.

Which Pythons are installed is not remembered: each build looks. A failure counts no more when something has changed
that may decide whether a fetch succeeds: uv, its settings, the authorities that it trusts, name servers, or routes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .uv import CERTIFICATES, Uv

KEPT_S = 600
_FILE = ".pythons-not-fetched.json"
_READ = ("/etc/resolv.conf", "/proc/net/route", "/etc/uv/uv.toml")
_SETTING = re.compile(r"(?:UV|SSL)_\w+|\w+_proxy", re.IGNORECASE)


@dataclass(frozen=True)
class Failures:
    """The fetches that failed, in a file in the folder of all images."""

    uv: Uv

    def of(self, asked: str) -> str:
        """Return why the Python ``asked`` ("3.12") could not be fetched; empty if a build should try."""
        failure = self._all().get(asked)
        return str(failure["why"]) if failure is not None and self._counts(failure) else ""

    def add(self, asked: str, why: str) -> None:
        """Remember why ``asked`` could not be fetched. If that cannot be written, the next build tries again."""
        failure = {"at": time.time(), "circumstances": self._circumstances(), "why": why}
        others = {name: each for name, each in self._all().items() if self._counts(each)}
        part = self.uv.images / f"{_FILE}.{os.getpid()}"
        with contextlib.suppress(OSError):
            part.write_text(json.dumps({**others, asked: failure}))
            part.rename(self.uv.images / _FILE)

    def _counts(self, failure: Any) -> bool:
        try:
            recent = 0 <= time.time() - failure["at"] < KEPT_S
            return recent and "why" in failure and failure["circumstances"] == self._circumstances()
        except (KeyError, TypeError):
            return False

    def _all(self) -> dict[str, Any]:
        try:
            found = json.loads((self.uv.images / _FILE).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _circumstances(self) -> str:
        """Return a digest of what may decide whether a fetch succeeds. No secret of the build is in it."""
        settings = sorted((name, value) for name, value in os.environ.items() if _SETTING.fullmatch(name))
        files = [_content(Path(name)) for name in _READ]
        programs = [_version(Path(name)) for name in (self.uv.program, CERTIFICATES)]
        return hashlib.sha256(repr((settings, files, programs)).encode()).hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _version(path: Path) -> tuple[int, int]:
    """Return what distinguishes versions of a large file: the time of its last change, and its size."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
