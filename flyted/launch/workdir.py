"""The working folder of an app, ``STATE/work``: it stays, and what the bundle brings stands in it as links.

Its folders are real, so that the app may write into each; files are links to ``CACHE/revision/code/NAME``. Each unit
has a ``CACHE/revision`` of its own (plan/units.py), so two revisions beside each other share what the app wrote, and
each finds its own code. A start with the same bundle finds the stamp, and does nothing.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from . import bundle as bundles
from .refused import EX_CANTCREAT, Refused
from .surroundings import first, say

_REVISION = "revision"
_STAMP, _STALE = ".stamp", ".stale.json"  # below STATE/code
OWN = ".own.json"
KEPT = "the app's own files are used instead of the deployed ones: "
"""How the unit's status ends where the app has such (plan/states.py)."""
_NAMED = 5


class Place:
    """Where an app runs: ``work``, its working folder, and the folder of its ``code``, "" without a bundle.

    ``code_first``: imports begin there, since a file of the app's own is in the place of a module.
    """

    def __init__(self, work: str, code: str, *, code_first: bool) -> None:
        self.work, self.code, self.code_first = work, code, code_first

    def folders(self) -> list[str]:
        """Where modules are looked for, in this order."""
        found = [self.work, self.code] if self.code else [self.work]
        return found[::-1] if self.code_first else found


def enter(bundle: str | None, environ: MutableMapping[str, str]) -> Place:
    """Makes the app's working folder ready for ``bundle``, and changes to it.

    Raises ``Refused`` if the bundle cannot be read or is unsafe, or if the disk does not take it.
    """
    cache, state = first(environ, "CACHE_DIRECTORY"), first(environ, "STATE_DIRECTORY")
    if not cache or not state:
        raise Refused("launch: the unit needs CacheDirectory= and StateDirectory=")
    try:
        place = _prepare(bundle, cache, state)
        os.chdir(place.work)
    except OSError as error:
        raise Refused(f"the app's folder {state} cannot be made ready: {error.strerror}", EX_CANTCREAT) from None
    return place


def tidy(environ: MutableMapping[str, str]) -> None:
    """Removes the links that this bundle does not bring. To be called when the app serves.

    Until then the revision before it may have to go on, and needs them.
    """
    state = first(environ, "STATE_DIRECTORY")
    if state and os.path.exists(os.path.join(state, "code", _STALE)):
        from .arrange import Arrangement

        try:
            Arrangement(first(environ, "CACHE_DIRECTORY"), state).remove_stale()
        except OSError as error:
            say(f"old links in {state}/work cannot be removed: {error.strerror}")


def kept(environ: MutableMapping[str, str]) -> str:
    """What to say of files of the app's own that stand where the bundle has some; "" if there are none."""
    try:
        with open(os.path.join(first(environ, "STATE_DIRECTORY"), "code", OWN), encoding="utf-8") as file:
            import json

            return KEPT + named(json.load(file))
    except (OSError, ValueError):
        return ""


def named(names: list[str]) -> str:
    """The first few, in one line."""
    shown = [name if name.isprintable() else ascii(name) for name in names[:_NAMED]]
    return ", ".join(shown) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def own_path(environ: MutableMapping[str, str], name: str) -> str:
    """The path of a file that belongs to this revision's run alone. In the working folder a link leads to it."""
    path = os.path.join(first(environ, "CACHE_DIRECTORY"), _REVISION, name)
    here = os.path.join(first(environ, "STATE_DIRECTORY"), "work", name)
    if read_link(here) != path:
        link(path, here)
    return path


def code_link(cache: str) -> str:
    """Where a unit finds the code of its revision."""
    return os.path.join(cache, _REVISION, "code")


def link(target: str, path: str) -> None:
    """Makes a symbolic link, also in place of a file or another link."""
    fresh = f"{path}.{os.getpid()}"
    os.symlink(target, fresh)
    os.replace(fresh, path)


def read_link(path: str) -> str:
    """Where a symbolic link leads; "" if it is none."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _prepare(bundle: str | None, cache: str, state: str) -> Place:
    work, code = os.path.join(state, "work"), os.path.join(state, "code")
    for path in (work, code, os.path.join(cache, _REVISION)):
        os.makedirs(path, 0o700, exist_ok=True)
    folder = bundles.unpacked(bundle, code) if bundle else ""
    if folder and read_link(code_link(cache)) != folder:
        link(folder, code_link(cache))
    wanted = f"{os.path.basename(folder)}.{os.stat(work).st_ino}"
    stamp, _, order = read_link(os.path.join(code, _STAMP)).partition(" ")
    if stamp != wanted or os.path.isdir(os.path.join(cache, "code")) or os.path.isdir(os.path.join(cache, "work")):
        from .arrange import Arrangement

        order = "code-first" if Arrangement(cache, state).arrange(folder) else ""
        link(f"{wanted} {order}", os.path.join(code, _STAMP))
    return Place(work, folder, code_first=bool(order))
