"""Makes and reads the links of an app's working folder, and puts names of its files into words."""

from __future__ import annotations

import os

from .words import REVISION_FOLDER

OWN = ".own.json"  # below STATE/code: files of the app's own that take the place of the bundle's
_NAMED = 5


def code_link(cache: str) -> str:
    """Return the path of the link at which a unit finds the code of its revision."""
    return os.path.join(cache, REVISION_FOLDER, "code")


def link(target: str, path: str) -> None:
    """Make a symbolic link, also in place of a file or another link. Raise ``OSError`` if that fails."""
    fresh = f"{path}.{os.getpid()}"
    os.symlink(target, fresh)
    os.replace(fresh, path)


def read_link(path: str) -> str:
    """Return the target of a symbolic link; "" if ``path`` is not one."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def names_text(names: list[str]) -> str:
    """Return the first ``_NAMED`` names, and the number of the others, as text for one line."""
    shown = [name if name.isprintable() else ascii(name) for name in names[:_NAMED]]
    return ", ".join(shown) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
