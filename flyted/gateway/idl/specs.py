"""Stores apps as clients described them: the SDK compares the answer with what it would send.

flyted keeps its own plain description; the client's is stored here by the digest of flyted's, so that the two always
belong together. An app that was not served through the gateway has none here; it is described from flyted's
(``described.py``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

from flyted.contract.names import AppKey
from flyted.gateway.files.whole import oldest, replace, stored

KEPT = 16
"""Descriptions of an app: more than flyted keeps revisions of it (host/store.py), of which any may serve."""
APPS = 1000


class Specs:
    """The folder of descriptions: a folder for each app, in it a file for each of its ``KEPT`` last used ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def keep(self, key: AppKey, digest: str, app: bytes) -> None:
        """Store a serialised ``App`` under the digest of flyted's description.

        Delete the least recently used descriptions of the app beyond ``KEPT``, and those of the oldest apps beyond
        ``APPS``. Raise :class:`~flyted.contract.errors.HostFailure` if it cannot be written.
        """
        folder = self._of(key)
        with stored(f"the description of app '{key}'"):
            folder.mkdir(mode=0o700, exist_ok=True)
            replace(folder / digest, app)
            for path in oldest(folder, KEPT):
                path.unlink(missing_ok=True)
            for path in oldest(self._folder, APPS):
                shutil.rmtree(path, ignore_errors=True)

    def find(self, key: AppKey, digest: str) -> bytes | None:
        """Return the serialised ``App`` that was stored under a digest, and note that it was used; else None."""
        path = self._of(key) / digest
        try:
            found = path.read_bytes() if digest else None
        except OSError:
            return None
        if found is not None:
            with contextlib.suppress(OSError):
                os.utime(path)
        return found

    def forget(self, key: AppKey) -> None:
        """Delete all descriptions of an app, which was deleted."""
        shutil.rmtree(self._of(key), ignore_errors=True)

    def _of(self, key: AppKey) -> Path:
        return self._folder / hashlib.sha256(f"{key.project}/{key.domain}/{key.name}".encode()).hexdigest()
