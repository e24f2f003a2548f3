"""Who is who on this machine, by the name service (passwd, group, and whatever nsswitch.conf adds)."""

from __future__ import annotations

import grp
import os
import pwd
import re
from pathlib import Path

GROUP = "flyted"
ETC = Path("/etc")
FILES = ("group", "passwd", "nsswitch.conf")
"""The files of :data:`ETC` that say who is who, and where else that is said."""
_HOMED = Path("/run/systemd/userdb/io.systemd.Home")
_TELL = {"files", "systemd"}
"""Sources of nsswitch.conf(5) that change with these files, or have no members of group flyted."""


def name_of(uid: int) -> str:
    """The user's name, or its number where it has none (a user of a unit, say)."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def is_account(uid: int) -> bool:
    """Whether it is a user that the name service knows: not so those that a user namespace gives its maker."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def may_operate(uid: int, name: str) -> bool:
    """Whether this is, right now, still the user of that name, and root or a member of group flyted.

    Both are compared: a uid is given to somebody else when its user is deleted.
    """
    try:
        user = pwd.getpwuid(uid)
        if user.pw_name != name:
            return False
        return uid == 0 or grp.getgrnam(GROUP).gr_gid in os.getgrouplist(name, user.pw_gid)
    except KeyError:
        return False


def in_files(etc: Path = ETC, homed: Path = _HOMED) -> bool:
    """Whether who is who changes with :data:`FILES` alone: sssd, LDAP or homed tell nobody when they change."""
    try:
        lines = (etc / "nsswitch.conf").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    for line in lines:
        database, _, sources = line.partition("#")[0].partition(":")
        named = set(re.sub(r"\[[^\]]*\]", " ", sources).split())
        if database.strip() in ("passwd", "group", "initgroups") and not named <= _TELL:
            return False
    return not homed.exists()
