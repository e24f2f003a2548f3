"""Looks up this machine's users and groups by the name service (passwd, group, and sources in nsswitch.conf)."""

from __future__ import annotations

import grp
import os
import pwd
import re
from pathlib import Path

GROUP = "flyted"
ETC = Path("/etc")
FILES = ("group", "passwd", "nsswitch.conf")
"""The files of :data:`ETC` that define users and groups, and the one that names other sources of them."""
_HOMED = Path("/run/systemd/userdb/io.systemd.Home")
_TELL = {"files", "systemd"}
"""Sources of nsswitch.conf(5) that change with these files, or have no members of group flyted."""


def name_of(uid: int) -> str:
    """Return the user's name, or its number if it has no name (a user of a unit, for example)."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def is_account(uid: int) -> bool:
    """Report whether the name service knows this user.

    It does not know the users that a user namespace adds for its creator.
    """
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def may_operate(uid: int, name: str) -> bool:
    """Report whether ``uid`` is, right now, still the user ``name``, and root or a member of group flyted.

    Both are compared: the uid of a deleted user may be given to another user.
    """
    try:
        user = pwd.getpwuid(uid)
        if user.pw_name != name:
            return False
        return uid == 0 or grp.getgrnam(GROUP).gr_gid in os.getgrouplist(name, user.pw_gid)
    except KeyError:
        return False


def in_files(etc: Path = ETC, homed: Path = _HOMED) -> bool:
    """Report whether users and groups change with :data:`FILES` alone: sssd, LDAP and homed do not report changes."""
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
