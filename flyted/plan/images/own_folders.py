"""Finds the folders of an image that its program expects to write to, by their owners. Pure.

An app runs as a user of its own, who can only read the image. The image's VOLUMEs and these folders become folders in
memory. launch fills them from the image at each start, so a large folder is left out, and so is what launch runs on.
"""

from __future__ import annotations

import posixpath
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flyted.layers.words import BASE
from flyted.plan.images.root_check import is_volume

MOST_BYTES = 16 << 20
MOST_FILES = 1000
_MOST_FOLDERS = 24
_MOST_LOOKED_AT = 10_000
_STATE = ("/var/cache", "/var/lib", "/var/log", "/var/spool")
"""Where programs that are started as root make folders for the user that they become."""
_PROGRAMS = ("/bin", "/boot", "/dev", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/tmp", "/usr/bin",  # noqa: S108
             "/usr/include", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/sbin", "/usr/share")  # fmt: skip
_OF_THE_SYSTEM = ("/var/cache/apt", "/var/cache/ldconfig", "/var/lib/apt", "/var/lib/misc", "/var/lib/systemd",
                  "/var/log/apt")  # fmt: skip
_OF_THE_MACHINE = ("/", "/usr", "/usr/local")
"""Where a Python is that is not a user's own environment."""
_OWN_PLACES = ("/opt", "/usr/local")
"""Where programs are in folders of their own."""
_WRITTEN = frozenset(("cache", "data", "log", "logs", "run", "temp", "tmp", "work"))
"""What programs there call the folders that they write to: Apache httpd's logs, Tomcat's work."""
_HIERARCHY = frozenset(("/home", "/lost+found", "/media", "/mnt", "/opt", "/root", "/srv"))
"""The folders at the top that are empty in many images (hier(7)); others there are some program's."""
_CONFIGURED = (("/docker-entrypoint.d", "/etc/nginx", "/etc/nginx/conf.d"),)
"""What an entry point writes its program's configuration to: nginx's own image, from /etc/nginx/templates.

Each is what shows that the image has such an entry point, then the folder, after the one that it is in.
"""
_OF_SYSTEMD = frozenset(f"/run/{name}" for name in ("lock", "mount", "systemd", "udev", "user"))
_NOTHING = (16, 0)
"""The files and folders, and their bytes, of a folder that counts as empty."""
_ID = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True)
class Folders:
    """The folders of the layers of an image.

    ``below(path)``: the folders in a folder, each with the user of the machine whom it belongs to. ``size(path)``:
    files and bytes below it, counted no further than a file and a byte too many.
    """

    below: Callable[[str], Iterable[tuple[str, int]]]
    size: Callable[[str], tuple[int, int]]


@dataclass(frozen=True)
class Own:
    """What an app can write to, and what it cannot, since it is ``large``."""

    folders: tuple[str, ...] = ()
    large: tuple[str, ...] = ()

    def without(self, folder: str) -> Own:
        """Return the same, but for one folder."""
        return Own(*(tuple(each for each in found if each != folder) for found in (self.folders, self.large)))

    def notes(self, volumes: Iterable[str]) -> tuple[str, ...]:
        """Return the notes for the user. ``volumes``: those that the image names; an app is refused if one is none."""
        writable = list(dict.fromkeys((*filter(is_volume, volumes), *self.folders)))
        found = []
        if writable:
            found.append(
                f"the app can write to {', '.join(writable)} of its image; they are in memory and are reset to "
                "the image's contents at each start: keep data in $HOME"
            )
        if self.large:
            found.append(f"{', '.join(self.large)}: too large to be writable, although the image's user owns it")
        return tuple(found)


def user_id(user: str, passwd: str) -> int | None:
    """Return the number of an image's USER, ``NAME`` or ``NUMBER``, also with ``:GROUP``; ``None``: no such user.

    ``passwd``: the image's /etc/passwd.
    """
    name = user.partition(":")[0]
    for line in passwd.splitlines():
        fields = line.split(":")
        if name and fields[0] == name and len(fields) > 2 and _ID.fullmatch(fields[2]):
            return int(fields[2])
    if name in ("", "root"):
        return 0
    return int(name) if _ID.fullmatch(name) else None


def own_folders(user: int | None, volumes: Iterable[str], folders: Folders, pythons: Iterable[str] = ()) -> Own:
    """Return the folders that belong to the image's user, not those below them.

    Where that is root, all belong to it: then those that look as if programs wrote to them. And those in /run, which
    is empty otherwise. ``pythons``: the paths of the image's Python: nothing covers what it runs in.
    """
    environments = {posixpath.dirname(posixpath.dirname(path)) for path in pythons if path}
    search = _Search(folders, tuple(volumes), tuple(environments - set(_OF_THE_MACHINE)))
    if user is None:
        return Own()
    for path, _owner in folders.below("/run"):
        if path not in _OF_SYSTEMD:
            search.take(path)
    if user == 0:
        search.of_root()
        search.configured()
    else:
        search.walk("/", BASE + user)
    return Own(tuple(sorted(search.found)[:_MOST_FOLDERS]), tuple(sorted(search.large)[:_MOST_FOLDERS]))


@dataclass
class _Search:
    folders: Folders
    volumes: tuple[str, ...]
    environments: tuple[str, ...]
    found: list[str] = field(default_factory=list)
    large: list[str] = field(default_factory=list)
    left: int = _MOST_LOOKED_AT

    def of_root(self) -> None:
        """Take those of :data:`_STATE` that are empty, are another user's, or for logs; and elsewhere empty ones."""
        for top in _STATE:
            for path, owner in self.folders.below(top):
                if top == "/var/log" or owner != BASE or self.folders.size(path) == (0, 0):
                    self.take(path)
        for path, _owner in self.folders.below("/"):
            if path not in _HIERARCHY and is_volume(path) and self._is_empty(path):
                self.take(path)
        for program in (path for top in _OWN_PLACES for path, _owner in self.folders.below(top)):
            for path, _owner in self.folders.below(program):
                if posixpath.basename(path) in _WRITTEN and self._is_empty(path):
                    self.take(path)

    def configured(self) -> None:
        """Take what an entry point of root's writes its program's configuration to."""
        for mark, parent, folder in _CONFIGURED:
            if self._has("/", mark) and self._has(parent, folder):
                self.take(folder)

    def walk(self, top: str, owner: int) -> None:
        """Take the outermost folders of an owner. Those near the top come first: an environment may have thousands."""
        todo = deque([top])
        while todo and self.left > 0:
            for path, whose in self.folders.below(todo.popleft()):
                self.left -= 1
                if path in self.environments:
                    continue
                if whose == owner and not any(each.startswith(f"{path}/") for each in self.environments):
                    self.take(path)
                elif path not in _PROGRAMS:
                    todo.append(path)

    def _has(self, parent: str, folder: str) -> bool:
        return any(path == folder for path, _owner in self.folders.below(parent))

    def _is_empty(self, path: str) -> bool:
        files, size = self.folders.size(path)
        return files <= _NOTHING[0] and size <= _NOTHING[1]

    def take(self, path: str) -> None:
        """Take a folder, unless it is none that can be covered."""
        below = any(path == each or path.startswith(f"{each}/") for each in self.volumes)
        if below or path in _OF_THE_SYSTEM or not is_volume(path):
            return
        files, size = self.folders.size(path)
        (self.found if files <= MOST_FILES and size <= MOST_BYTES else self.large).append(path)
