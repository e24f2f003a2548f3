"""Links the files of the image's working folder into the app's own, in which an app with a bundle starts.

On a cluster the two are one folder, so programs open what the image copied there by a relative name. The links are
made at every start, because the image can change without the bundle. A file of the bundle or the app with the same
name stays. A revision that still runs beside this one has its own root, in which the same link leads to its own file.
"""

from __future__ import annotations

import json
import os

from . import bundle as bundles
from .links import read_link

_SHOWN = ".image.json"  # below STATE/code: [the image's folder, names of links to what is in it]
_NEW_HOME = "/etc/skel"  # what useradd puts into a home folder is nothing that an app opens


def show(folder: str, state: str) -> None:
    """Make links to the files in ``folder`` of the image, "" or "/" for none; remove those to another folder's.

    Raise ``OSError`` if the app's folders cannot be written.
    """
    before, names = shown(state)
    if before != folder:
        _forget(state, set(names))
        names = []
    made, there = set(names), _names(folder)
    for name in there:
        path = os.path.join(state, "work", name)
        if not os.path.lexists(path):
            os.symlink(os.path.join(folder, name), path)
            made.add(name)
    if made != set(names) or (before != folder and (before or there)):
        _write(state, folder, made)


def hide(state: str) -> None:
    """Remove all links, before those of a bundle are made: a bundle's file goes first. Raise ``OSError``."""
    _forget(state, set(shown(state)[1]))


def tidy(state: str) -> None:
    """Remove the links to what the image has not any more, once the app serves; make those that are now free.

    Raise ``OSError`` if the app's folders cannot be written.
    """
    folder, names = shown(state)
    if folder:
        _forget(state, {name for name in names if not os.path.lexists(os.path.join(folder, name))})
        show(folder, state)


def _forget(state: str, gone: set[str]) -> None:
    if not gone:
        return
    folder, names = shown(state)
    for name in gone:
        path = os.path.join(state, "work", name)
        if read_link(path) == os.path.join(folder, name):
            os.unlink(path)
    _write(state, folder, set(names) - gone)


def _names(folder: str) -> list[str]:
    if folder in {"", "/"}:
        return []
    try:
        return [name for name in os.listdir(folder) if not os.path.lexists(os.path.join(_NEW_HOME, name))]
    except OSError:
        return []


def shown(state: str) -> tuple[str, list[str]]:
    """Return the image's folder, and the names in the app's working folder that are links into it."""
    try:
        with open(os.path.join(state, "code", _SHOWN), encoding="utf-8") as file:
            folder, names = json.load(file)
            return str(folder), list(names)
    except (OSError, ValueError, TypeError):
        return "", []


def _write(state: str, folder: str, names: set[str]) -> None:
    bundles.write_whole(os.path.join(state, "code", _SHOWN), [folder, sorted(names)])
