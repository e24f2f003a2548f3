"""The answers about tokens and logins. Times are in seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass, field

from flyted.contract.answers.codec import WIRE_ONLY, Answer


@dataclass(frozen=True, slots=True)
class TokenStatus(Answer):
    """A token, without its text: that is stored nowhere."""

    id: str
    kind: str  # session, named or browser
    name: str  # of a named one
    user: str
    app: str  # the id of the app that it opens; "": it opens everything
    created_at: float
    expires_at: float
    used_at: float  # to the day; 0: never, as far as is known


@dataclass(frozen=True, slots=True)
class TokenList(Answer):
    """The answer of `token.list`, and of `token.revoke`: those that were revoked."""

    tokens: tuple[TokenStatus, ...]


@dataclass(frozen=True, slots=True)
class Created(Answer):
    """The answer of `token.create`."""

    token: str = field(repr=False)  # its text
    status: TokenStatus


@dataclass(frozen=True, slots=True)
class Minted(Answer):
    """The answer of `token.mint` and `login.redeem`."""

    token: str = field(repr=False)  # its text
    user: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class LoginLink(Answer):
    """The answer of `login.create` and `login.pass`."""

    url: str  # the page that takes the code; of `login.create` with the code in it
    expires_at: float
    code: str = field(repr=False, metadata=WIRE_ONLY)  # works once


@dataclass(frozen=True, slots=True)
class WhoAmI(Answer):
    """The answer of `whoami`."""

    user: str
    uid: int
    rights: tuple[str, ...]  # in the words of the daemon: read, operate, secrets, admin
    kind: str  # of the token; "": the kernel says who calls
    expires_at: float  # of the token; 0 without one
