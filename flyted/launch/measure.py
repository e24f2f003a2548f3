"""Counts the data that an app keeps, as the app's own user, who alone may read its folders: ``launch --measure``.

Unpacked code and links do not count; files that the app wrote beside its code do.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator

from . import bundle
from .own_files import Mover
from .surroundings import first

_LONGEST_S = 2.0


def main() -> int:
    """Print one JSON object: ``bytes``, ``files``, ``cache_bytes``, and ``complete``; return 0.

    ``complete`` is false if there was no time to count all files.
    """
    state, cache = first(os.environ, "STATE_DIRECTORY"), first(os.environ, "CACHE_DIRECTORY")
    deadline = time.monotonic() + _LONGEST_S
    kept, complete = _count(_own_files(state), deadline)
    cached, all_of_it = _count(_files(cache, but=os.path.join(cache, "launch")), deadline)  # __main__.py
    json.dump(
        {"bytes": sum(kept), "files": len(kept), "cache_bytes": sum(cached), "complete": complete and all_of_it},
        sys.stdout,
    )
    return 0


def _own_files(state: str) -> Iterator[str]:
    code = os.path.join(state, "code")
    yield from _files(state, but=code)
    mover = Mover(state, os.path.join(state, "work"), lambda _path, _name: False)
    for name in bundle.folders_of(code) if os.path.isdir(code) else ():
        folder = os.path.join(code, name)
        record = bundle.record_of(folder)
        yield from (os.path.join(folder, each) for each in (mover.own(folder, record) if record else ()))


def _files(top: str, but: str = "") -> Iterator[str]:
    for folder, below, files in os.walk(top):
        below[:] = [name for name in below if os.path.join(folder, name) != but]
        yield from (os.path.join(folder, name) for name in files)


def _count(paths: Iterator[str], deadline: float) -> tuple[list[int], bool]:
    """Return the size of each file in bytes, and whether all files were counted before ``deadline``."""
    sizes: list[int] = []
    for path in paths:
        if time.monotonic() > deadline:
            return sizes, False
        try:
            if not os.path.islink(path):
                sizes.append(os.lstat(path).st_size)
        except OSError:
            continue  # the file has been deleted meanwhile
    return sizes, True
