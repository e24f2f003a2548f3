"""Runs a function on a module as soon as it is imported.

To import the SDK's modules for apps in a program that has no app would cost 0.5 s.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def after_import(name: str, then: Callable[[ModuleType], None]) -> None:
    """Call ``then`` with the module ``name``: now if it is loaded, else right after its first import."""
    if name in sys.modules:
        then(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, then))


class _Finder(MetaPathFinder):
    """Finds the one module through the other finders, with a loader that reports its import; goes when it has come."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name, self._then = name, then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        spec = self._of_others(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._told)
        return spec

    def _of_others(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        """Ask the finders after this one, as the import itself would: those before it have been asked."""
        at = sys.meta_path.index(self) + 1 if self in sys.meta_path else 0
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path[at:] if hasattr(finder, "find_spec"))
        return next((spec for spec in found if spec is not None), None)

    def _told(self, module: ModuleType) -> None:
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)
        self._then(module)


class _Loader(Loader):
    """The module's own loader, in whatever it is asked for; after the import it reports the module."""

    def __init__(self, real: Loader, then: Callable[[ModuleType], None]) -> None:
        self._real, self._then = real, then

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)  # get_source and the like, for who looks before the import

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._real
        self._real.exec_module(module)
        self._then(module)
