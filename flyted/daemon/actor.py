"""Who calls, and what they may: from the kernel on the control socket, from a token on the api socket."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from flyted.plan.facts import Token
from flyted.plan.tokens import BROWSER


class Right(enum.Enum):
    """Members of group flyted have the first three, root has all; a token never gives the last."""

    READ = "read"
    OPERATE = "operate"
    SECRETS = "secrets"
    ADMIN = "admin"


class Door(enum.Enum):
    """The sockets: behind one the kernel says who calls, behind the other a token."""

    CONTROL = "control"
    API = "api"


_MEMBER = frozenset({Right.READ, Right.OPERATE, Right.SECRETS})


@dataclass(frozen=True)
class Actor:
    """Who calls: ``token`` is how they proved it; ``None`` where the kernel says so (SO_PEERCRED)."""

    uid: int
    pid: int
    token: Token | None = None

    @property
    def root(self) -> bool:
        """Whether it is the machine's owner, here and in person."""
        return self.uid == 0 and self.token is None

    @property
    def rights(self) -> frozenset[Right]:
        """A browser's token reads only (what a page could be tricked into); one of an app opens that app, no more."""
        if self.token is None:
            return _MEMBER | {Right.ADMIN} if self.root else _MEMBER
        if self.token.app_id:
            return frozenset()
        return frozenset({Right.READ}) if self.token.kind == BROWSER else _MEMBER


NOBODY = Actor(uid=-1, pid=0)
"""Who calls one of the few verbs that need no token. Its rights are never asked for."""
