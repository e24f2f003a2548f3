"""Finds the users and groups of an image by name, in its own /etc/passwd and /etc/group, which may hold anything."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass

from .failed import Failed
from .words import EX_STEP, IDS

_LIMIT = 1 << 20
_ID = re.compile(r"[0-9]{1,5}")
_SHOWN = 40


@dataclass(frozen=True)
class Owner:
    """Who runs a command or owns a file, by the image's numbers. ``groups``: the further ones."""

    uid: int
    gid: int
    home: str
    groups: tuple[int, ...]


ROOT = Owner(0, 0, "/root", ())


def owner(text: str) -> Owner:
    """Return who ``user[:group]`` names as the owner of files. Raises :class:`Failed` if there is none.

    A number is itself, whatever the image's files make of it, and its own group if none is named: COPY --chown.
    """
    name, _, group = text.partition(":")
    if not name.isdigit():
        return find(text)
    return Owner(_number(name), _group(group, _rows("/etc/group", 4)) if group else _number(name), "/", ())


def find(text: str) -> Owner:
    """Return the user that ``user[:group]`` names, each a name or a number. Raises :class:`Failed` if there is none.

    A number need not be in the image's files; its group is then 0, as in containers.
    """
    name, _, group = text.partition(":")
    rows = _rows("/etc/passwd", 7)
    found = next((row for row in rows if name in (row[0], row[2])), None)
    if found is None and name == "root":
        name = "0"  # also in an image of one file
    if found is None and not name.isdigit():
        raise Failed(EX_STEP, f"the image has no user {name}")
    uid, gid, home = (_number(name), 0, "/") if found is None else (_number(found[2]), _number(found[3]), found[5])
    groups = _rows("/etc/group", 4)
    if group:
        return Owner(uid, _group(group, groups), home or "/", ())
    more = [_number(row[2]) for row in groups if found is not None and found[0] in row[3].split(",")]
    return Owner(uid, gid, home or "/", tuple(more[:64]))


def _group(name: str, rows: list[list[str]]) -> int:
    found = name if name.isdigit() else next((row[2] for row in rows if name == row[0]), name)
    if not found.isdigit():
        raise Failed(EX_STEP, f"the image has no group {name}")
    return _number(found)


def _number(text: str) -> int:
    digits = text.lstrip("0") or text[-1:]  # int() refuses a text of thousands of digits
    number = int(digits) if _ID.fullmatch(digits) else IDS
    if number >= IDS:
        raise Failed(EX_STEP, f"users and groups of an image are numbers below {IDS}, not {text[:_SHOWN]}")
    return number


def _rows(path: str, columns: int) -> list[list[str]]:
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return []
        lines = file.read(_LIMIT).decode(errors="replace").split("\n")
    return [row for row in (line.split(":") for line in lines) if len(row) == columns]
