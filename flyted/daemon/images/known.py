"""Remembers which container image each name stood for when its registry last answered, in a file for each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from flyted.contract.errors import StoreCorrupt
from flyted.daemon.images.layers_on_disk import listed
from flyted.host import foreign_file, whole_file
from flyted.plan.images.pull_unit import PulledImage, pulled_image

RECORD_LIMIT = 4 << 20
"""Bytes of the record of a pull."""


@dataclass(frozen=True)
class Last:
    """The image that a name stood for last. ``asked_at``: seconds since 1970."""

    image: PulledImage
    asked_at: float


class Known:
    """The names in ``folder``; each file is as old as what it says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, key: str, text: str) -> None:
        """Record what a registry answered: the text of a pull's record. Raises :class:`HostFailure`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{key}.json"
        whole_file.update(path, text.encode(), 0o600)
        with contextlib.suppress(OSError):
            os.utime(path)

    def find(self, key: str) -> Last | None:
        """Return what was recorded last; None if that is damaged or there is nothing."""
        path = self._folder / f"{key}.json"
        with contextlib.suppress(OSError, UnicodeDecodeError, StoreCorrupt):
            return Last(pulled_image(foreign_file.read(path, RECORD_LIMIT)), path.stat().st_mtime)
        return None

    def has(self, reference: str) -> bool:
        """Report whether anything is recorded of an image, for any login."""
        noted = (self.find(path.stem) for path in listed(self._folder))
        return any(last is not None and last.image.reference == reference for last in noted)

    def forget_all_but(self, manifests: Collection[str]) -> None:
        """Delete the records of images of other manifests."""
        for path in listed(self._folder):
            last = self.find(path.stem)
            if last is None or last.image.manifest not in manifests:
                path.unlink(missing_ok=True)
