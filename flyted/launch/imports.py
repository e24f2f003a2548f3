"""Runs a function on a module right after the app imports it; imports nothing itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _AfterImport:
    """A finder in front of the others, which lets them find the module, and adds the function to its loader."""

    def __init__(self, name: str, function: Callable[[ModuleType], None]) -> None:
        self._name, self._function = name, function

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    self._wrap(spec.loader)
                return spec
        return None

    def _wrap(self, loader: Any) -> None:
        run, function = loader.exec_module, self._function

        def exec_module(module: ModuleType) -> None:
            run(module)
            function(module)

        loader.exec_module = exec_module


def after_import(name: str, function: Callable[[ModuleType], None]) -> None:
    """Call ``function(module)`` once, when module ``name`` has been imported, or now if it already is."""
    if name in sys.modules:
        function(sys.modules[name])
    else:
        sys.meta_path.insert(0, _AfterImport(name, function))
