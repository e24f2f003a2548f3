"""Starts one Flyte app inside its unit: ``IMAGE/bin/python -I …/flyted/launch --app NAME … -- COMMAND``.

This file only makes the modules beside it importable, under a package name that no app uses, and removes its own
folder from ``sys.path``: an app may have an ``options.py`` or a ``program.py`` of its own.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType

_PACKAGE = "_flyted_launch"
_HERE = os.path.dirname(os.path.abspath(__file__))
_CACHE = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]


class _Loader(SourceFileLoader):
    """A loader that keeps byte code in the app's cache.

    This folder is read-only for the app, and the image's Python may be any version.
    """

    def get_code(self, fullname: str) -> CodeType | None:
        before = sys.pycache_prefix
        sys.pycache_prefix = os.path.join(_CACHE, "launch") if _CACHE else before
        try:
            return super().get_code(fullname)
        finally:
            sys.pycache_prefix = before


class _Neighbours:
    """A finder of ``_flyted_launch.NAME`` beside this file."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        package, _, module = name.rpartition(".")
        if package != _PACKAGE:
            return None
        path = os.path.join(_HERE, module + ".py")
        spec = ModuleSpec(name, _Loader(name, path), origin=path)
        spec.has_location = True
        return spec


def _open_package() -> None:
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]
    package = ModuleType(_PACKAGE, __doc__)
    package.__path__ = []  # makes it a package, but gives the ordinary finders nothing to search
    sys.modules[_PACKAGE] = package
    sys.meta_path.append(_Neighbours)


if __name__ == "__main__":
    _open_package()
    from _flyted_launch.words import DRAIN, EXPORT, IMPORT, MEASURE  # type: ignore[import-not-found]

    if sys.argv[1:] == [MEASURE]:
        from _flyted_launch.measure import main as measure  # type: ignore[import-not-found]

        sys.exit(measure())
    if sys.argv[1:] == [EXPORT]:
        from _flyted_launch.export import main as export  # type: ignore[import-not-found]

        sys.exit(export())
    if sys.argv[1:2] == [IMPORT]:
        from _flyted_launch.unpack_data import main as import_  # type: ignore[import-not-found]

        sys.exit(import_(sys.argv[2:]))
    if sys.argv[1:] == [DRAIN]:
        from _flyted_launch.drain import drain_unit  # type: ignore[import-not-found]

        sys.exit(drain_unit())
    from _flyted_launch.run import main  # type: ignore[import-not-found]

    try:
        _status = main(sys.argv[1:])
    except SystemExit as _end:
        if not isinstance(_end.code, int | None):
            raise  # the exit code is a text, which Python prints
        _status = _end.code or 0
    from _flyted_launch.end import leave  # type: ignore[import-not-found]

    leave(_status)
    sys.exit(_status)
