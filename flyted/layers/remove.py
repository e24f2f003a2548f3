"""Removes folders of layers, whatever a step has left in them. The working folder is the one of all layers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from .failed import Failed
from .words import EX_OSERR


def remove(names: Iterable[str]) -> None:
    """Remove folders below the working folder; those that are not there are passed over. Raises :class:`Failed`.

    By rm(1): it goes as deep as a step has gone, which a recursion in Python does not.
    """
    there = [name for name in names if os.path.lexists(name)]
    if not there:
        return
    words = ["/usr/bin/rm", "-rf", "--one-file-system", "--", *there]
    done = subprocess.run(words, cwd=Path.cwd(), stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Failed(EX_OSERR, f"not all of {', '.join(there)} could be removed")
