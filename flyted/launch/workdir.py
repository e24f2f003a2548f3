"""Prepares the working folder of an app, ``STATE/work``, which persists, and in which the bundle's files are links.

Its folders are real, so that the app may write into each; files are links to ``CACHE/revision/code/NAME``. Each unit
has a ``CACHE/revision`` of its own (plan/units.py), so two revisions that run side by side share what the app wrote,
but each finds its own code. A start with the same bundle finds the stamp, and changes nothing.

Links, not an overlay: the upper layer of an overlay must not be mounted twice, and two revisions run side by side at
each deploy. So a draining revision keeps its modules and pages, and a database has one place. The price: a program
that resolves links writes beside its code, and the first start of the next bundle has to move these files to the
working folder (``own_files``). This is also why an app's code is not read-only: Django's ``BASE_DIR / "db.sqlite3"``
would not start. Files in an image's working folder are linked by absolute paths, which lead into each revision's own
root (``image_files``).
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from . import bundle as bundles
from . import image_files
from .links import OWN, code_link, link, names_text, read_link
from .refused import Refused
from .surroundings import first, say
from .words import EX_CANTCREAT, IMPORTED, KEPT, REVISION_FOLDER

_STAMP, _STALE = ".stamp", ".stale.json"  # below STATE/code


class Place:
    """The folders of an app: ``work``, which it keeps, and ``code``, the folder of its code, "" without a bundle.

    ``code_first``: imports look in ``code`` first, since a file of the app's own takes the place of a module.
    ``image``: the working folder that the image names; without a bundle the app starts in it.
    """

    def __init__(self, work: str, code: str, *, code_first: bool) -> None:
        self.work, self.code, self.code_first, self.image = work, code, code_first, ""

    def folders(self) -> list[str]:
        """Return the folders in which modules are looked for, in this order."""
        found = [self.work, self.code] if self.code else [self.work]
        own = found[::-1] if self.code_first else found
        image = [self.image] if self.image else []
        return [*own, *image] if self.code else [*image, *own]


def enter(bundle: str | None, environ: MutableMapping[str, str], image: str = "") -> Place:
    """Prepare the app's working folder for ``bundle``, and change to it; without a bundle, to the image's, if any.

    ``image``: the working folder that the image names; with a bundle, its files are links in the app's. Raise
    ``Refused`` if the bundle cannot be read or is unsafe, if the folders cannot be written, or if the unit has none;
    while the app's data is imported; and if the image's folder cannot be entered.
    """
    cache, state = first(environ, "CACHE_DIRECTORY"), first(environ, "STATE_DIRECTORY")
    if not cache or not state:
        raise Refused("launch: the unit needs CacheDirectory= and StateDirectory=")
    try:
        if os.path.lexists(os.path.join(state, IMPORTED)):
            from .imported import settle

            settle(state)
        place = _prepare(bundle, cache, state)
        image_files.show(os.path.normpath(image) if image and bundle else "", state)
        os.chdir(place.work)
    except OSError as error:
        raise Refused(f"the app's folder {state} cannot be prepared: {error.strerror}", EX_CANTCREAT) from None
    place.image = image
    if image and not bundle:
        try:
            os.chdir(image)
        except OSError as error:
            raise Refused(f"the image's working folder {image} cannot be entered: {error.strerror}") from None
    return place


def tidy(environ: MutableMapping[str, str]) -> None:
    """Remove the links to files that this bundle or image does not have. To be called when the app serves.

    Until then the revision before it may have to keep serving, and needs these links. A failure is only logged.
    """
    state = first(environ, "STATE_DIRECTORY")
    try:
        if state and os.path.exists(os.path.join(state, "code", _STALE)):
            from .arrange import Arrangement

            Arrangement(first(environ, "CACHE_DIRECTORY"), state).remove_stale()
        if state:
            image_files.tidy(state)
    except OSError as error:
        say(f"old links in {state}/work cannot be removed: {error.strerror}")


def kept(environ: MutableMapping[str, str]) -> str:
    """Return a line on files of the app's own that take the place of the bundle's; "" if there are none."""
    try:
        with open(os.path.join(first(environ, "STATE_DIRECTORY"), "code", OWN), encoding="utf-8") as file:
            import json

            return KEPT + names_text(json.load(file))
    except (OSError, ValueError):
        return ""


def own_path(environ: MutableMapping[str, str], name: str) -> str:
    """Return the path of a file that belongs to this revision alone, and link to it from the working folder.

    Raise ``OSError`` if the link cannot be made.
    """
    path = os.path.join(first(environ, "CACHE_DIRECTORY"), REVISION_FOLDER, name)
    here = os.path.join(first(environ, "STATE_DIRECTORY"), "work", name)
    if read_link(here) != path:
        link(path, here)
    return path


def _prepare(bundle: str | None, cache: str, state: str) -> Place:
    work, code = os.path.join(state, "work"), os.path.join(state, "code")
    for path in (work, code, os.path.join(cache, REVISION_FOLDER)):
        os.makedirs(path, 0o700, exist_ok=True)
    folder = bundles.unpacked(bundle, code) if bundle else ""
    if folder and read_link(code_link(cache)) != folder:
        link(folder, code_link(cache))
    wanted = f"{os.path.basename(folder)}.{os.stat(work).st_ino}"
    stamp, _, order = read_link(os.path.join(code, _STAMP)).partition(" ")
    if stamp != wanted or os.path.isdir(os.path.join(cache, "code")) or os.path.isdir(os.path.join(cache, "work")):
        from .arrange import Arrangement

        image_files.hide(state)
        order = "code-first" if Arrangement(cache, state).arrange(folder) else ""
        link(f"{wanted} {order}", os.path.join(code, _STAMP))
    return Place(work, folder, code_first=bool(order))
