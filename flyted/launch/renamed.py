"""Makes files of a bundle that the app renamed its own at the next deploy, by copying their content.

A file of the bundle is a link in the working folder, and a program that renames it (``config.json`` to
``config.json.bak``) renames the link. With the next bundle the link would lead to another file, or to none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable

from .links import read_link


def keep(work: str, names: Iterable[str], target: Callable[[str], str], find: Callable[[str], str]) -> None:
    """Replace links that were renamed by copies of the files to which they lead.

    ``names``: the names at which a deploy made links, each to ``target(name)``. The working folder, which may be
    large, is searched only if one of these is missing. ``find(name)``: returns the path of the file, "" if it is gone.
    Raise ``OSError`` if a file cannot be copied.
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
