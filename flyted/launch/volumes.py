"""Fills the volumes of an image with what the image has there, as a container's are at their first start.

Each is a folder in memory, new at every start, that covers the image's own. That one is seen below ``IMAGE``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from .surroundings import say
from .words import IMAGE

_LOGS = "/var/log/"


def fill(volumes: Iterable[str], image: str = IMAGE) -> None:
    """Copy the content of each volume. What the app may not read is left out, and named in the log."""
    for volume in volumes:
        source = f"{image}{volume}"
        if not os.path.isdir(source) or os.listdir(volume):
            continue
        try:
            shutil.copytree(source, volume, symlinks=True, ignore=_special, dirs_exist_ok=True)
        except shutil.Error as errors:
            # the volume itself belongs to root, so its mode and times stay as they are
            left = [os.path.relpath(each[0], source) for each in errors.args[0] if each[1] != volume]
            if left and not volume.startswith(_LOGS):  # nothing needs an image's own logs
                say(f"volume {volume}: {len(left)} files of the image cannot be read or stored, as {left[0]!a}")
        except OSError as error:
            say(f"volume {volume} cannot be filled from the image: {error.strerror}")


def _special(folder: str, names: list[str]) -> list[str]:
    """Return the names of sockets, pipes and devices in a folder: reading these could block."""
    paths = ((name, os.path.join(folder, name)) for name in names)
    return [name for name, path in paths if not (os.path.islink(path) or os.path.isfile(path) or os.path.isdir(path))]
