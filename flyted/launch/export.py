"""Writes what an app keeps to standard output, as a tar archive: ``launch --export``, as the app's own user.

This module chooses the files; GNU tar reads them, since it knows holes, long names and times of a nanosecond. The
archive has the names below the app's state folder. What a deploy put there is left out: unpacked code, and the links
to it in the working folder. A file that the app wrote beside its code, or changed there, is in the archive at the name
that it has in the working folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator

from . import bundle, image_files
from .links import read_link
from .own_files import Mover
from .surroundings import first
from .words import CODE, IMPORTED, REVISION_FOLDER

_CHANGED, _FAILED = 1, 2  # tar's exit status if a file changed while it was read, and if one could not be read
_HARMLESS = re.compile(
    r"(?:/usr/bin/)?tar: (?:.*: (?:(?:Warning: )?Cannot \w+: No such file or directory|file changed as we read it|"
    r"File removed before we read it|File shrank by \d+ bytes.*)|Exiting with failure status due to previous errors)"
)
"""What tar says of files that the app changes or deletes meanwhile."""
_MOST_SAID = 1 << 20
_OPTIONS = (
    "--create", "--format=posix", "--sparse", "--numeric-owner", "--owner=0", "--group=0", "--no-recursion", "--null",
    "--verbatim-files-from", "--files-from=-", "--xattrs", "--xattrs-include=user.*",
    "--pax-option=delete=atime,delete=ctime", "--transform=s,^code/[^/]*/,work/,rSh", "--file=-",
)  # fmt: skip


class Archive:
    """The names to be archived, and what is counted of them."""

    def __init__(self, state: str, cache: str) -> None:
        self.state = state
        # as it is named inside and outside of the unit (systemd.exec(5), DynamicUser=)
        name = re.escape(os.path.basename(cache))
        self._deployed = re.compile(rf"/var/cache/(?:private/)?{name}/{REVISION_FOLDER}/")
        self.files = self.bytes = self.left_out = 0

    def names(self) -> Iterator[str]:
        """Yield each name, relative to the state folder; a folder comes before what is in it."""
        yield from self._walk()
        for name in dict(self._beside()).values():  # of several with one name, that of the newest code
            with contextlib.suppress(FileNotFoundError):
                self._count(os.lstat(os.path.join(self.state, name)))
                yield name

    def _walk(self) -> Iterator[str]:
        image, shown = image_files.shown(self.state)
        of_image = {f"work/{name}": os.path.join(image, name) for name in shown}
        for top, below, files in os.walk(self.state):
            inside = os.path.relpath(top, self.state)
            inside = "" if inside == "." else f"{inside}/"
            if not inside:
                below[:] = [name for name in below if name not in (CODE, IMPORTED)]
            for name in [*below, *files]:
                path = os.path.join(top, name)
                try:
                    found = os.lstat(path)
                except FileNotFoundError:
                    continue  # the app has deleted it meanwhile
                target = read_link(path) if stat.S_ISLNK(found.st_mode) else ""
                if self._deployed.match(target) or (target and of_image.get(inside + name) == target):
                    continue
                if self._count(found):
                    yield inside + name

    def _count(self, found: os.stat_result) -> bool:
        """Count a file; return whether it is one that is archived."""
        if stat.S_ISREG(found.st_mode):
            self.files += 1
            self.bytes += found.st_size
        elif not stat.S_ISDIR(found.st_mode) and not stat.S_ISLNK(found.st_mode):
            self.left_out += 1
            return False
        return True

    def _beside(self) -> Iterator[tuple[str, str]]:
        """Yield the name in the working folder, and the own name, of each file of the app's beside its code."""
        code, work = os.path.join(self.state, "code"), os.path.join(self.state, "work")
        mover = Mover(self.state, work, lambda _path, _name: False)
        for name in bundle.folders_of(code) if os.path.isdir(code) else ():
            folder = os.path.join(code, name)
            record = bundle.record_of(folder)
            for own in mover.own(folder, record) if record else ():
                path = os.path.join(folder, own)
                there = os.path.join(work, own)
                free = not os.path.lexists(there) or self._deployed.match(read_link(there))
                if free and os.path.isfile(path) and not os.path.islink(path):
                    yield f"work/{own}", f"code/{name}/{own}"


def main() -> int:
    """Write the archive, and one JSON object to standard error: what is in it, or ``error``. Return 0 or 1."""
    archive = Archive(first(os.environ, "STATE_DIRECTORY"), first(os.environ, "CACHE_DIRECTORY"))
    error, changed = "", False
    try:
        status, said = _tar(archive)
        changed = status != 0
        lost = [line for line in said if not _HARMLESS.fullmatch(line)]
        if status not in (0, _CHANGED) and (lost or not said or status != _FAILED):
            error = (lost or said or [f"tar ended with status {status}"])[0]
    except OSError as failed:
        error = failed.strerror or "it failed"
    counts = {"files": archive.files, "bytes": archive.bytes, "left_out": archive.left_out}
    json.dump({**counts, "changed": changed, "error": error}, sys.stderr)
    return 1 if error else 0


def _tar(archive: Archive) -> tuple[int, list[str]]:
    """Run tar on the names; return its exit status, and the lines that it said."""
    with open(os.memfd_create("names"), "w+b") as names, open(os.memfd_create("said"), "w+b") as errors:
        names.writelines(os.fsencode(name) + b"\0" for name in archive.names())
        names.seek(0)
        command = ["/usr/bin/tar", f"--directory={archive.state}", *_OPTIONS]
        status = subprocess.run(command, stdin=names, stderr=errors, check=False).returncode
        errors.seek(0)
        return status, errors.read(_MOST_SAID).decode(errors="replace").splitlines()
