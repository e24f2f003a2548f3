"""Decides as which user a file is imported: never as root."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flyted.contract.errors import InvalidInput, PermissionRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

# The variables that a program of the user gets from root's environment.
KEPT = ("LANG", "LANGUAGE", "TERM", "COLORTERM", "NO_COLOR", "TZ", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Identity:
    """A user to become completely, with all ids, all groups, and an environment of their own."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str

    def drop(self) -> dict[str, Any]:
        """Return arguments for ``subprocess``, which sets the groups, then gid, then uid (real, effective and saved).

        The process gets a session of its own: in root's it could type into root's terminal (ioctl_tty(2): TIOCSTI).
        """
        own = {"start_new_session": True, "umask": 0o022}
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups), **own}

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a login, with the caller's language, terminal and active virtual environment."""
        kept = {name: environ[name] for name in environ if name in KEPT or name.startswith("LC_")}
        own = {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell, "PATH": PATH}
        return kept | own


def to_become(as_user: str | None, environ: Mapping[str, str]) -> Identity | None:
    """Return the user to become; None for an ordinary caller, who does not change.

    Root becomes the user behind sudo (SUDO_UID), or ``as_user``. Raise PermissionRefused for root without either,
    InvalidInput for a user that does not exist or is root, and for an ordinary caller with another user as
    ``as_user``.
    """
    if 0 not in os.getresuid():
        if as_user is not None and as_user not in {pwd.getpwuid(os.geteuid()).pw_name, str(os.geteuid())}:
            raise InvalidInput("only root can use --as", hint="omit --as: the file is imported as you")
        return None
    if as_user is not None:
        return of(_entry(as_user, "--as"))
    caller = environ.get("SUDO_UID", "")
    if caller not in {"", "0"}:
        return of(_entry(caller, "SUDO_UID"))
    raise PermissionRefused(
        "app files are never imported as root",
        hint="run flytectl as a member of group flyted, or name another user: --as USER",
    )


def _entry(name: str, source: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError, ValueError) as error:
        raise InvalidInput(f"{source}: there is no user {name!r}", hint="see: getent passwd") from error


def of(entry: pwd.struct_passwd) -> Identity:
    """Return the user of this entry. Raise InvalidInput for root."""
    if entry.pw_uid == 0:
        raise InvalidInput(
            f"{entry.pw_name} is root, and app files are never imported as root", hint="name another: --as USER"
        )
    groups = tuple(group for group in os.getgrouplist(entry.pw_name, entry.pw_gid) if group != 0)
    return Identity(
        entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir or "/", entry.pw_shell or "/bin/sh"
    )
