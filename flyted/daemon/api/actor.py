"""Identifies callers and their rights: by the kernel on the control socket, by a token on the api socket."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from flyted.plan.tokens import BROWSER, Token


class Right(enum.Enum):
    """The right that a verb requires. Members of group flyted have the first three; no token gives the last one."""

    READ = "read"
    OPERATE = "operate"
    SECRETS = "secrets"
    ADMIN = "admin"


class Socket(enum.Enum):
    """A socket that takes verbs: the kernel identifies callers on the control socket, a token on the api socket."""

    CONTROL = "control"
    API = "api"


_MEMBER = frozenset({Right.READ, Right.OPERATE, Right.SECRETS})


@dataclass(frozen=True)
class Actor:
    """Who calls. ``token`` is what proved it; it is ``None`` where the kernel says who calls (SO_PEERCRED)."""

    uid: int
    pid: int
    token: Token | None = None

    @property
    def root(self) -> bool:
        """True if root calls, on this machine and without a token."""
        return self.uid == 0 and self.token is None

    @property
    def rights(self) -> frozenset[Right]:
        """The caller's rights.

        A browser's token may only read, since a page could be tricked into calls. A token for one app opens that app
        and has no right here.
        """
        if self.token is None:
            return _MEMBER | {Right.ADMIN} if self.root else _MEMBER
        if self.token.app_id:
            return frozenset()
        return frozenset({Right.READ}) if self.token.kind == BROWSER else _MEMBER


NOBODY = Actor(uid=-1, pid=0)
"""The caller of one of the few verbs that need no token. Its rights are not checked."""
