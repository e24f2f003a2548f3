"""What the daemon's tests have in place of costly parts that are tested on their own: the disk, and inotify."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

from flyted.host.store import Store


class FakeWatch:
    """As ``host.watch_files.FileWatch``: to close one of the kernel's takes 10 ms."""

    def __init__(self) -> None:
        self.hears = True
        self._changed: Callable[[], None] = lambda: None

    def start(self, changed: Callable[[], None]) -> None:
        """As host.watch_files."""
        self._changed = changed

    def changed(self) -> None:
        """One of the files changes."""
        self._changed()


def quick_store(path: Path) -> Store:
    """The store at ``path``, made if it is not there. It does not wait for the disk, which no power cut follows."""
    if not path.exists():
        path.write_bytes(_empty_store())
    store = Store(path)
    store.database._db.execute("PRAGMA synchronous = OFF")
    return store


@functools.cache
def _empty_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "flyted.db")
        Store(path).close()
        return path.read_bytes()
