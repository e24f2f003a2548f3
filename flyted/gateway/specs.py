"""Apps as clients described them: the SDK compares what it gets back with what it would send.

flyted keeps its own plain description; this is the client's, by the digest of the former, so that the two cannot be
confused. An app that was served by other means has none here, and is described from flyted's (``described.py``).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from flyted.contract.names import AppKey
from flyted.gateway.recipes import replace

KEPT = 4
APPS = 1000


class Specs:
    """A folder per app, a file per description, the newest few."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def keep(self, key: AppKey, digest: str, app: bytes) -> None:
        """Remembers a serialised ``App``."""
        folder = self._of(key)
        folder.mkdir(mode=0o700, exist_ok=True)
        replace(folder / digest, app)
        for path in _oldest(folder, KEPT):
            path.unlink(missing_ok=True)
        for path in _oldest(self._folder, APPS):
            shutil.rmtree(path, ignore_errors=True)

    def find(self, key: AppKey, digest: str) -> bytes | None:
        """The ``App`` that was given for this digest."""
        try:
            return (self._of(key) / digest).read_bytes() if digest else None
        except OSError:
            return None

    def forget(self, key: AppKey) -> None:
        """The app is deleted."""
        shutil.rmtree(self._of(key), ignore_errors=True)

    def _of(self, key: AppKey) -> Path:
        return self._folder / hashlib.sha256(f"{key.project}/{key.domain}/{key.name}".encode()).hexdigest()


def _oldest(folder: Path, kept: int) -> list[Path]:
    found = [(entry.stat().st_mtime, entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return [Path(path) for _, path in sorted(found)[:-kept]]
