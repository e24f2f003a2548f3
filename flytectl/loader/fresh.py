"""Imports the user's modules from their source, never from bytecode beside it.

Python takes a ``.pyc`` for current if the source has the same size and was changed in the same second. A file that is
edited and served twice within a second would be bundled as it is and described as it was.
"""

from __future__ import annotations

import sys
from importlib.abc import PathEntryFinder
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from types import CodeType

_INSTALLED = frozenset({"site-packages", "dist-packages"})


class Loader(SourceFileLoader):
    """A loader of source files that neither reads nor writes bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source. Raise what Python raises for source that it cannot compile."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def install(root: Path) -> None:
    """Use :class:`Loader` for every module below ``root`` except installed packages, which are not edited."""
    kinds = (
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (Loader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )
    hook = FileFinder.path_hook(*kinds)

    def below_root(entry: str) -> PathEntryFinder:
        path = Path(entry or ".").resolve()
        if not path.is_relative_to(root) or _INSTALLED & set(path.parts):
            raise ImportError(entry)
        return hook(entry)

    sys.path_hooks.insert(0, below_root)
    for entry in [*sys.path_importer_cache]:
        if Path(entry or ".").resolve().is_relative_to(root):
            del sys.path_importer_cache[entry]
