"""Has modules that others import, and this process hardly uses, loaded late or not at all: 0.8 MiB of memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType


def postpone(*names: str) -> None:
    """Have each of these modules loaded when one of its attributes is read, and not when it is imported.

    ``from MODULE import NAME`` reads one, and so does a second ``import MODULE``. A module that is imported already
    stays as it is.
    """
    sys.meta_path.insert(0, _Late(names))


def leave_out(*names: str) -> None:
    """Have each of these modules, which nothing in this process uses, imported without its content.

    What others import from it is None.
    """
    for name in names:
        module = sys.modules[name] = ModuleType(name)
        module.__dict__["__getattr__"] = _nothing


def _nothing(_name: str) -> None:
    return None


class _Late:
    """Finds modules as the standard library does, with a loader that waits."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how the module is loaded, or None for one that is not to be postponed (:mod:`importlib.abc`)."""
        if name not in self.names:
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is not None and found.loader is not None:
            found.loader = LazyLoader(found.loader)
        return found
