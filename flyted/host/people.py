"""Who is who on this machine, by the name service (passwd, group, and whatever nsswitch.conf adds)."""

from __future__ import annotations

import grp
import os
import pwd

GROUP = "flyted"


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
