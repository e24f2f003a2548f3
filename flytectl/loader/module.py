"""Locates the user's file, and imports it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import fresh
from .failure import LoadError, from_user_code

if TYPE_CHECKING:
    from types import ModuleType


class Source(NamedTuple):
    """A file, the folder at which its bundle starts, and the name by which it is imported, here and in the app."""

    file: Path
    root: Path
    module: str


def locate(given: str, root: str | None) -> Source:
    """Return the file, its root and its module name.

    ``root``: that of ``--root-dir``. By default the root is the working directory, as with ``flyte serve``; for a file
    that is not below that, it is the file's folder. Raise LoadError("import") for a file that cannot be read, is not
    below ``root``, or cannot be named by an import statement.
    """
    path = Path(given)
    # Links are resolved in the folders, but not in the last part, so that `app.py` keeps its name.
    file = path.parent.resolve() / path.name
    _check_readable(file)
    if file.suffix != ".py":
        raise LoadError("import", f"{file.name} is not a Python file", hint="give a file whose name ends in .py")
    start = Path(root).resolve() if root else Path.cwd()
    module = _module_name(file, start) or _module_name(file, file.parent)
    if root and not file.is_relative_to(start):
        raise LoadError("import", f"{file} is not below the root {start}", hint="choose another --root-dir")
    if module is None:
        raise LoadError(
            "import",
            f"{file.name} cannot be imported by this name: a dot separates packages",
            hint=f"rename it, for example to {file.stem.replace('.', '_')}.py",
        )
    if not _module_name(file, start):
        start = file.parent
    return Source(file, start, module)


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb"):
            return
    except FileNotFoundError:
        message, hint = f"there is no file {file}", "check the spelling and the working directory"
    except IsADirectoryError:
        message, hint = f"{file} is a folder", "give the file in it that defines the environment"
    except OSError as error:
        message, hint = f"{file} cannot be read: {error.strerror}", "check its permissions (ls -l)"
    raise LoadError("import", message, hint=hint)


def _module_name(file: Path, root: Path) -> str | None:
    """Return the dotted name of ``file`` below ``root``, as the SDK's app resolver makes it; None if impossible."""
    try:
        parts = file.relative_to(root).with_suffix("").parts
    except ValueError:
        return None
    return None if any("." in part for part in parts) else ".".join(parts)


def load(source: Source) -> ModuleType:
    """Import the file. Its ``if __name__ == "__main__"`` part does not run.

    Raise LoadError with the user's own traceback. Ctrl-C (KeyboardInterrupt) is passed on.
    """
    _check_free(source)
    sys.path[:0] = list(dict.fromkeys([str(source.root), str(source.file.parent)]))
    fresh.install(source.root)
    try:
        return _executed(source)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # sys.exit too
        raise from_user_code(error, source.file, source.root) from error


def _check_free(source: Source) -> None:
    if source.module in sys.modules:
        known = getattr(sys.modules[source.module], "__file__", None) or "built into Python"
        raise LoadError(
            "import",
            f"{source.file.name} would hide the module {source.module!r} that already exists ({known})",
            hint=f"rename the file, for example to {source.module}_app.py",
        )


def _executed(source: Source) -> ModuleType:
    """Import the packages that contain the file, as the running app does, then the file, and return its module.

    A package may import the file itself. The file is not looked up by its name: a `tests` in site-packages would take
    precedence over a folder without ``__init__.py``.
    """
    parts = source.module.split(".")[:-1]
    for depth in range(1, len(parts) + 1):
        if source.root.joinpath(*parts[:depth], "__init__.py").is_file():
            importlib.import_module(".".join(parts[:depth]))
    if source.module in sys.modules:
        return sys.modules[source.module]
    loader = fresh.Loader(source.module, str(source.file))
    spec = importlib.util.spec_from_file_location(source.module, source.file, loader=loader)
    if spec is None or spec.loader is None:
        raise ImportError(f"{source.file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[source.module] = module
    spec.loader.exec_module(module)
    return module
