"""Stores which model name stands for which folder (SQLite), and checks whether apps can read the folder.

A folder is used where it is, by apps that could read it anyway: nothing is copied or mounted, and a name gives no
right. So every file of it, and every folder above it, has to be readable by everybody.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from flyted.contract.errors import InvalidInput, NotFound
from flyted.contract.names import printable
from flyted.host.database import Database

MOST_ENTRIES = 100_000
MOST_LINKS = 40  # as path_resolution(7) allows
_UNSEEN = ("/home", "/root", "/run", "/tmp", "/var/tmp", "/var/lib/flyted", "/proc", "/sys", "/dev")  # noqa: S108
"""Folders in which apps see something else, or nothing (plan/sandbox.py), or which are empty after a reboot."""


@dataclass(frozen=True)
class Model:
    """One row. ``folder``: absolute, without links in it. ``added_at``: seconds since 1970."""

    name: str
    folder: str
    added_at: float


class Models:
    """The table of models. Every method is one transaction, and raises as :class:`Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, model: Model) -> None:
        """Store a model, in place of the one with its name, if any."""
        with self._database.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO model VALUES (?, ?, ?)", (model.name, model.folder, model.added_at)
            )

    def all(self) -> tuple[Model, ...]:
        """Return every model, ordered by name."""
        return tuple(
            Model(*row) for row in self._database.rows("SELECT name, folder, added_at FROM model ORDER BY name")
        )

    def remove(self, name: str) -> Model:
        """Forget a model, on a full disk too, and return it, or raise :class:`NotFound`."""
        found = next((model for model in self.all() if model.name == name), None)
        if found is None:
            raise NotFound(f"there is no model {printable(name)}", hint="flytectl model ls")
        with self._database.freeing():
            self._database.execute("DELETE FROM model WHERE name = ?", (name,))
        return found


def checked(folder: str) -> tuple[str, int]:
    """Return the folder without links in its path, and the bytes of its files.

    Raises :class:`InvalidInput`, whose hint says what to type, unless every app can read all of it.
    """
    if not folder.startswith("/") or ".." in folder.split("/"):
        raise InvalidInput(f"the model's folder {printable(folder)} is not an absolute path")
    _check_place(folder, folder)
    try:
        real = _resolved(folder)
        _check_place(real, folder)
        if not stat.S_ISDIR(os.stat(real).st_mode):  # noqa: PTH116
            raise InvalidInput(
                f"{printable(folder)} is not a folder", hint="give the folder that contains config.json"
            )
        size = _check_below(real)
    except OSError as error:
        raise InvalidInput(
            f"the model's folder {printable(folder)} cannot be read: {error.strerror}", hint=f"ls -ld {folder}"
        ) from error
    if not size:
        raise InvalidInput(f"the model's folder {printable(folder)} has no files")
    return real, size


def _check_place(real: str, folder: str) -> None:
    if real == "/" or any(real == place or real.startswith(f"{place}/") for place in _UNSEEN):
        raise InvalidInput(
            f"apps cannot see {printable(folder)}", hint="keep models in a folder like /srv/models, and add them there"
        )


def _resolved(path: str) -> str:
    """Return where a path leads, through folders that everybody may go through; no other folder is looked into.

    The answer must not reveal what only root can see: neither whether a file is there, nor where a link in a closed
    folder leads. Raises :class:`InvalidInput`, OSError.
    """
    pending, at, links = path.split("/")[::-1], "/", 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        _check_passable(at)
        if part == "..":
            at = os.path.dirname(at)  # noqa: PTH120
            continue
        step = os.path.join(at, part)  # noqa: PTH118
        if not stat.S_ISLNK(os.lstat(step).st_mode):
            at = step
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(step)  # noqa: PTH115
        at = "/" if target.startswith("/") else at
        pending += target.split("/")[::-1]
    return at


def _check_passable(folder: str) -> None:
    if not os.stat(folder).st_mode & stat.S_IXOTH:  # noqa: PTH116
        _check_place(folder, folder)  # before the hint: /root must not be opened to everybody for what no app sees
        raise InvalidInput(f"not every user may enter {folder}", hint=f"sudo chmod o+x {folder}")


def _check_below(real: str) -> int:
    """Return the bytes of all files.

    A link may lead out of the folder, as in a hub's cache, if apps see its target too. Raises :class:`InvalidInput`.
    """
    size, seen = 0, 0
    pending = [real]
    while pending:
        folder = pending.pop()
        _check_mode(os.stat(folder).st_mode, folder, stat.S_IROTH | stat.S_IXOTH, real)  # noqa: PTH116
        with os.scandir(folder) as entries:
            for entry in entries:
                seen += 1
                if seen > MOST_ENTRIES:
                    raise InvalidInput(
                        f"{printable(real)} holds more than {MOST_ENTRIES} files: is it a model's folder?"
                    )
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                size += _check_file(entry, real)
    return size


def _check_file(entry: os.DirEntry[str], real: str) -> int:
    target = _resolved(entry.path) if entry.is_symlink() else entry.path
    info = os.lstat(target)
    if entry.is_symlink():
        _check_place(target, entry.path)
        if stat.S_ISDIR(info.st_mode):
            raise InvalidInput(
                f"{printable(entry.path)} is a link to a folder", hint="add the folder that it points to"
            )
    if not stat.S_ISREG(info.st_mode):
        raise InvalidInput(f"{printable(entry.path)} is not a regular file")
    _check_mode(info.st_mode, entry.path, stat.S_IROTH, real)
    return info.st_size


def _check_mode(mode: int, path: str, wanted: int, real: str) -> None:
    if mode & wanted != wanted:
        raise InvalidInput(f"apps may not read {printable(path)}", hint=f"sudo chmod -R o+rX {real}")
