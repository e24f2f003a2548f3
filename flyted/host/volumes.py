"""Stores which folder of the operator's is which volume (SQLite), and checks whether apps can be given the folder.

PID 1 follows links in what it mounts. So no part of the path may be a link, and no other user than root may be able to
put one there: each folder on the way belongs to root and can be written by root alone. What is in the folder itself
may be anybody's.

An app's user has no fixed number, so no file of the operator's can be its own. Apps write to a volume by a group that
exists for this volume alone: it has no other right on the machine, and whoever is added to it shares the files.
"""

from __future__ import annotations

import grp
import os
import re
import stat
from dataclasses import dataclass

from flyted.contract.errors import AlreadyExists, InvalidInput, NotFound
from flyted.contract.names import printable
from flyted.contract.volumes import group_of
from flyted.host.database import Database

_BELOW = (
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run", "/sbin",
    "/sys", "/tmp", "/usr", "/var/cache/private", "/var/lib/private", "/var/lib/systemd", "/var/log", "/var/tmp",  # noqa: S108
)  # fmt: skip
"""Folders of the system, users and apps, and those that everybody can write to. Nothing in them is a volume."""
_OURS = ("/var/lib/flyted", "/var/cache/flyted")
"""How the paths of flyted's own folders, and of links to apps' folders, begin."""
_FOLDER = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._@+-]+)+")
"""Paths that systemd reads back as they were written to a unit's file; without ``.`` and ``..``."""
_GROUP_MAY = stat.S_IRWXG


@dataclass(frozen=True)
class Volume:
    """One row. ``folder``: absolute, without links in it. ``added_at``: seconds since 1970."""

    name: str
    folder: str
    read_only: bool
    added_at: float


class Volumes:
    """The table of volumes. Every method is one transaction, and raises as :class:`Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, volume: Volume) -> None:
        """Store a volume. Raises :class:`AlreadyExists` if there is one of this name: apps may have it."""
        before = next((each for each in self.all() if each.name == volume.name), None)
        if before is not None:
            raise AlreadyExists(
                f"volume '{volume.name}' is {before.folder}", hint=f"sudo flytectl volume rm {volume.name}"
            )
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO volume VALUES (?, ?, ?, ?)",
                (volume.name, volume.folder, int(volume.read_only), volume.added_at),
            )

    def all(self) -> tuple[Volume, ...]:
        """Return every volume, ordered by name."""
        rows = self._database.rows("SELECT name, folder, read_only, added_at FROM volume ORDER BY name")
        return tuple(Volume(name, folder, bool(read_only), added) for name, folder, read_only, added in rows)

    def find(self, name: str) -> Volume:
        """Return a volume, or raise :class:`NotFound`."""
        found = next((volume for volume in self.all() if volume.name == name), None)
        if found is None:
            raise NotFound(
                f"there is no volume {printable(name)}",
                hint=f"flytectl volume ls; sudo flytectl volume add {name} DIR",
            )
        return found

    def remove(self, name: str) -> None:
        """Forget a volume, on a full disk too; its folder stays."""
        with self._database.freeing():
            self._database.execute("DELETE FROM volume WHERE name = ?", (name,))


def checked(name: str, folder: str, *, read_only: bool) -> str:
    """Return the group by which apps use a folder as volume ``name``; "" if everybody may read it.

    Raises :class:`InvalidInput`, whose hint says what to type, for a folder that is none, that could lead elsewhere,
    or that apps may not use.
    """
    if len(folder) > 1000 or _FOLDER.fullmatch(folder) is None:
        raise InvalidInput(
            f"{printable(folder)} is not an absolute path of letters, digits and ._@+-",
            hint="flytectl volume add NAME DIR; a mount gives a folder another name: sudo mount --bind DIR /srv/NAME",
        )
    _check_place(folder)
    try:
        found = _walked(folder)
    except OSError as error:
        raise InvalidInput(
            f"volume '{name}': the folder {printable(folder)} cannot be used: {error.strerror}",
            hint=f"ls -ld {folder}",
        ) from error
    return _group(name, folder, found, read_only=read_only)


def _check_place(folder: str) -> None:
    below = any(folder == place or folder.startswith(f"{place}/") for place in _BELOW) or folder.startswith(_OURS)
    above = any(place.startswith(f"{folder}/") for place in (*_BELOW, *_OURS))
    if below or above:
        raise InvalidInput(
            f"{printable(folder)} is the system's, a user's or an app's, and no volume",
            hint="use a folder of its own, such as one in /srv or /mnt",
        )


def _walked(folder: str) -> os.stat_result:
    """Return what the folder is. Raises :class:`InvalidInput` for a link, and for what others could replace."""
    at = ""
    parts = folder.split("/")[1:]
    for number, part in enumerate(parts):
        parent = os.lstat(at or "/")
        if parent.st_uid != 0 or parent.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InvalidInput(
                f"others than root can put a link in the place of {printable(folder)}: they may write to {at or '/'}",
                hint=f"sudo chown root {at or '/'}; sudo chmod go-w {at or '/'}; or use a folder in /srv",
            )
        at = f"{at}/{part}"
        found = os.lstat(at)
        if stat.S_ISLNK(found.st_mode):
            raise InvalidInput(f"{printable(at)} is a link", hint=f"use the folder itself: readlink -f {folder}")
        if not stat.S_ISDIR(found.st_mode):
            raise InvalidInput(f"{printable(at)} is not a folder", hint=f"ls -ld {at}")
        if number == len(parts) - 1:
            return found
    raise InvalidInput(f"{printable(folder)} is no folder of its own")


def _group(name: str, folder: str, found: os.stat_result, *, read_only: bool) -> str:
    group = group_of(name)
    make = f"getent group {group} || sudo groupadd --system {group}"
    try:
        owned = grp.getgrgid(found.st_gid).gr_name == group
    except KeyError:
        owned = False
    if read_only:
        if found.st_mode & stat.S_IROTH and found.st_mode & stat.S_IXOTH:
            return ""
        if owned and found.st_mode & stat.S_IRGRP and found.st_mode & stat.S_IXGRP:
            return group
        raise InvalidInput(
            f"apps may not read {printable(folder)}",
            hint=f"sudo chmod o+rx {folder}, or, not for everybody: {make}; sudo chgrp -R {group} {folder}; "
            f"sudo chmod -R g+rX {folder}",
        )
    if owned and found.st_mode & _GROUP_MAY == _GROUP_MAY and found.st_mode & stat.S_ISGID:
        if not found.st_mode & stat.S_IRWXO:
            return group
        raise InvalidInput(
            f"everybody may read {printable(folder)}, and so what apps write there", hint=f"sudo chmod o= {folder}"
        )
    raise InvalidInput(
        f"apps may not write to {printable(folder)}: they do so as group {group}",
        hint=f"{make}; sudo chgrp -R {group} {folder}; sudo chmod -R g+rwX,o= {folder}; "
        f"sudo find {folder} -type d -exec chmod g+s {{}} +; or add it for reading: --ro",
    )
