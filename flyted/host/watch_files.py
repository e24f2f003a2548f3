"""Watches some files of one folder for changes, inotify(7): also files that are replaced by rename, as most are."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from flyted.base import inotify

log = logging.getLogger(__name__)


class FileWatch:
    """A watch on a folder. ``hears`` is false if the kernel provides none: then the caller has to poll."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._names = frozenset(name.encode() for name in names)
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            self._fd = inotify.watching(folder)
        except OSError as error:
            log.warning("changes to files of %s are not noticed immediately: %s", folder, error.strerror)

    @property
    def hears(self) -> bool:
        """True if the kernel reports changes."""
        return self._fd >= 0

    def start(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` after each change from now on, and for those since the watch was made."""
        if self.hears:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._fd, self._read, changed)

    def close(self) -> None:
        """Close the watch."""
        if self.hears:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self, changed: Callable[[], None]) -> None:
        if inotify.changed(self._fd, self._names):
            changed()
