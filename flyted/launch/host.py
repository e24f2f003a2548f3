"""Names programs of the machine, for an app in the root of an image too, which has none of them at its place.

There the machine's /usr is below ``HOST``. If the image has no Python of its own for launch, that of the machine runs
launch, and the app is another program, which replaces this one.
"""

from __future__ import annotations

import os
import sys

from .words import HOST, host_command


def program(path: str) -> list[str]:
    """Return the words that start a program of the machine, given by its path below /usr; its arguments follow."""
    return host_command(path, os.uname().machine) if os.path.isdir(HOST) else [f"/usr/{path}"]


def runs_us() -> bool:
    """Report whether this process is the machine's Python in the root of an image, which is not the app's."""
    return sys.prefix == HOST
