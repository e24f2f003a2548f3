"""Prepares a command's mounts, which do not become part of the layer: files of bundles and stages, caches, memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from . import bundle, enter, overlay, stage
from .copying import Order, copy
from .damaged import Damaged
from .failed import Failed
from .inside import Inside
from .job import Mount, Origin, Run
from .users import ROOT
from .words import EX_DATAERR


@dataclass(frozen=True)
class CommandMount:
    """One file or folder for a command. ``source``: its path on the machine; "": an empty folder in memory."""

    source: str
    target: str
    folder: bool
    writable: bool


def prepared(step: Run, bundles: Mapping[str, BinaryIO], scratch: Path) -> list[CommandMount]:
    """Return what to mount, in this order: a mount inside another comes after it.

    ``scratch``: an empty folder, gone afterwards. The working folder is the one of all layers, and /tmp the step's.
    """
    shown = [CommandMount(path, target, folder=True, writable=True) for path, target in _caches(step, scratch)]
    shown += [CommandMount("", target, folder=True, writable=True) for target in step.empty]
    for number, mount in enumerate(step.mounts):
        place = scratch / f"m{number}"
        place.mkdir()
        source = _source(mount, place, bundles)
        shown.append(CommandMount(source, mount.target, os.path.isdir(source), mount.writable))
    return sorted(shown, key=lambda each: each.target.count("/"))


def _caches(step: Run, scratch: Path) -> Iterator[tuple[str, str]]:
    for number, target in enumerate(step.caches):
        cache = scratch / f"c{number}"
        cache.mkdir()
        yield str(cache), target


def _source(mount: Mount, place: Path, bundles: Mapping[str, BinaryIO]) -> str:
    if mount.origin is None:
        file = place / "it"
        file.write_text(mount.text, "utf-8")
        return str(file)
    if mount.origin.folder:
        return _taken_out(mount, bundles[mount.origin.folder], place)
    return _of_stage(mount.origin, mount, place)


def _of_stage(origin: Origin, mount: Mount, place: Path) -> str:
    root = overlay.other(f"from-{place.name}", origin.layers, str(place) if mount.writable else "")
    try:
        with closing(Inside(root)) as tree:
            return f"{root}/{stage.real_path(tree, mount.source)}"
    except FileNotFoundError:
        raise Failed(EX_DATAERR, f"the other stage has no {mount.source}") from None
    except Damaged as error:
        raise Failed(EX_DATAERR, f"the other stage cannot be used: {error}") from None


def _taken_out(mount: Mount, file: BinaryIO, folder: Path) -> str:
    """Take a file or folder out of a bundle, in a process whose root is ``folder``; return its path."""
    child = os.fork()
    if child == 0:
        os._exit(enter.settled(lambda: _take_out(mount, file, folder)))
    if status := enter.status_of(child):
        os._exit(status)  # it has said why
    file.seek(0)  # for the next one; the child has moved the position
    return str(folder / "it")


def _take_out(mount: Mount, file: BinaryIO, folder: Path) -> int:
    os.chdir(folder)
    os.chroot(".")
    enter.confine()
    copy(bundle.items(file), Order(mount.source, "/it", ROOT))
    return 0
