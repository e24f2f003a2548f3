"""Files of a bundle to which the app gave other names: their content becomes the app's own at the next deploy.

A file of the bundle stands in the working folder as a link, and a program that renames it (``config.json`` to
``config.json.bak``) moves the link: with the next code it would show another file, or none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable

from .workdir import read_link


def keep(work: str, names: Iterable[str], target: Callable[[str], str], find: Callable[[str], str]) -> None:
    """Replaces links of other names by what they lead to.

    ``names``: those at which a deploy made links, each to ``target(name)``. Nobody looks for more unless one of these
    is not there: the working folder may be large. ``find(name)``: the file behind it, "" if there is none any more.
    """
    gone = {target(name): name for name in names if read_link(os.path.join(work, name)) != target(name)}
    for top, _folders, files in os.walk(work) if gone else ():
        for each in files:
            path = os.path.join(top, each)
            name = gone.get(read_link(path), "") if os.path.islink(path) else ""
            source = find(name) if name else ""
            if source:
                fresh = f"{path}.{os.getpid()}.moving"
                shutil.copy2(source, fresh)
                os.replace(fresh, path)
