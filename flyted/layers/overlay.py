"""Stacks the layers of a job: what its step changes goes to the layer's own folder; the layers below stay as they are.

The overlay is mounted inside the step's user namespace, so it needs no right in the machine and ends with the step.
Its marks are extended attributes ``user.overlay.*``, since those of ``trusted.*`` need a capability of the machine:
every mount of these layers needs ``userxattr`` too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from . import kernel
from .failed import Failed
from .words import DIFF, EX_CONFIG

ROOT = "/tmp/root"  # noqa: S108  /tmp is a file system of the step's own (:func:`own_tmp`)
_BOTTOM, _NOTHING = "/tmp/bottom", ("/tmp/nothing", "/tmp/nothing-more")  # noqa: S108
_PAGE = 4096  # mount(2): options beyond this are cut off
PLACES = ("/dev/", "/proc/", "/sys/", "/run/", "/tmp/", "/etc/resolv.conf", "/etc/hosts")  # noqa: S108
"""What the root of a command has, whatever the image has."""


def own_tmp() -> None:
    """Mount an empty private /tmp."""
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.NOSUID | kernel.NODEV, "mode=755")  # noqa: S108


def stack(layer: str, parents: Iterable[str], places: Iterable[str] = ()) -> None:
    """Mount the layers at :data:`ROOT`; the working folder is the one of all layers.

    ``places``: files, and folders (with "/" at the end), on which something will be mounted. They lie below all
    layers: so no layer gets an empty folder for that, and an image of one file has a /proc while it is built.
    """
    _bottom(places)
    lower = ":".join([*(f"{each}/{DIFF}" for each in reversed(list(parents))), _BOTTOM])
    # volatile: nothing is written to the disk yet; all of it is, before the layer counts as complete
    options = f"lowerdir={lower},upperdir={layer}/{DIFF},workdir={layer}/work,userxattr,volatile"
    _check(options)
    os.mkdir(ROOT)
    kernel.mount("overlay", ROOT, "overlay", 0, options)


def other(name: str, layers: Iterable[str], writable: str = "") -> str:
    """Mount the layers of another stage below /tmp, and return where. ``writable``: a folder for what is changed.

    The working folder is the one of all layers. Without ``writable`` the stage is read-only.
    """
    target = f"/tmp/{name}"  # noqa: S108
    os.mkdir(target)
    for each in _NOTHING:  # an overlay that cannot be written wants two layers, and a stage may have none
        os.makedirs(each, exist_ok=True)
    lower = ":".join([*(f"{each}/{DIFF}" for each in reversed(list(layers))), *_NOTHING])
    options = f"lowerdir={lower},userxattr"
    if writable:
        for each in ("upper", "work"):
            os.makedirs(f"{writable}/{each}")
        options += f",upperdir={writable}/upper,workdir={writable}/work,volatile"
    _check(options)
    kernel.mount("overlay", target, "overlay", 0 if writable else kernel.RDONLY, options)
    return target


def _check(options: str) -> None:
    if len(options) >= _PAGE:
        raise Failed(EX_CONFIG, "the image has too many layers: merge some of its steps")


def _bottom(places: Iterable[str]) -> None:
    os.mkdir(_BOTTOM)
    for place in places:
        path = Path(f"{_BOTTOM}{place}")
        (path if place.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not place.endswith("/"):
            path.touch()
        elif place == "/tmp/":  # noqa: S108
            path.chmod(0o1777)
