"""Decides which tokens are valid, for what, and how many a user may have. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flyted.contract.errors import LimitReached

SESSION, NAMED, BROWSER = "session", "named", "browser"
LIFE_S: Mapping[str, float] = {SESSION: 3600.0, BROWSER: 12 * 3600.0}
"""Seconds that a token of a kind is valid. The creator of a named one chooses: :data:`LONGEST_S` at most."""
LONGEST_S = 366 * 86400
MOST: Mapping[str, int] = {SESSION: 500, NAMED: 100, BROWSER: 200}
"""The most tokens of a kind that one user may have."""
EXPIRED_KEPT_S = 30 * 86400.0
"""Seconds that an expired session or browser token is kept."""
DAY_S = 86400.0
CLOCK_S = 3600.0
"""Seconds that the clock may be set back without an effect on tokens."""
ANY_APP = "*"
LOOK_S = 60.0
"""Seconds until the next check after a failure, and if users are not defined in files alone.

The ingress learns that much later that an owner has left the group.
"""
NOTE_S = 3600.0
"""Seconds after which the uses of tokens, which HAProxy has in memory, are written down again while there are some."""
AGAIN_S = 5.0
"""Seconds until a second look after a change of the files: adduser(8) makes several, and nscd(8) may be behind."""

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Token:
    """A token as it is stored: all but its text, of which only the digest is kept. Times are seconds since 1970.

    ``kind``: "session" (an hour, for the command line), "named" (made by hand, for another machine) or "browser" (a
    cookie; the ``name`` of an app's cookie is the id of the login that it was issued from). ``app_id``: the only app
    that it opens, "" for everything that its owner may do. ``used_at``: the day of its last known use, 0 if none is.
    """

    digest: str
    id: str
    kind: str
    user: str
    uid: int
    app_id: str
    name: str
    created_at: float
    expires_at: float
    used_at: float = 0.0


def counts(token: Token, now: float) -> bool:
    """Report whether a token is valid at ``now``.

    A session or browser token is valid for hours. If it has longer left, the clock was ahead when the token was made,
    so it does not count. A named token is valid for as long as its maker said.
    """
    return _begins(token) <= now < token.expires_at


def _begins(token: Token) -> float:
    """Return the moment from which a token may count."""
    return token.expires_at - LIFE_S.get(token.kind, float("inf")) - CLOCK_S


def newly_used(tokens: Iterable[Token], uses: Mapping[str, float]) -> dict[str, float]:
    """Return the new day of last use, by digest, of each token that was used on a later day than the stored one.

    ``uses``: the moment of the last use, by digest. Only the day is kept, so a token costs at most one write a day,
    however often it is used. Session tokens are left out: they live for an hour, which is not worth a write.
    """
    days = {digest: at // DAY_S * DAY_S for digest, at in uses.items()}
    known = (t for t in tokens if t.kind != SESSION and t.digest in days)
    return {t.digest: days[t.digest] for t in known if days[t.digest] > t.used_at}


def dead(tokens: Iterable[Token], apps: frozenset[str], now: float) -> frozenset[str]:
    """Return the digests of the tokens to delete: those of apps that are gone, and those that expired long ago.

    An expired token is not valid, but it is kept for a while, because the clock may be wrong. A named token is kept
    until its owner needs its name or its place, because its text cannot be shown a second time.
    """
    return frozenset(
        t.digest for t in tokens
        if (t.app_id and t.app_id not in apps) or (t.kind != NAMED and t.expires_at + EXPIRED_KEPT_S <= now)
    )  # fmt: skip


def next_look(tokens: Iterable[Token], now: float, *, hears: bool, people_at: float) -> float | None:
    """Return when tokens have to be looked at again after a look at ``now``; ``None``: when something changes.

    ``hears``: whether each change of users and groups is reported. ``people_at``: when the last one was.
    """
    every = list(tokens)
    moments = [token.expires_at for token in every if counts(token, now)]
    if moments:
        moments.append(now + (NOTE_S if hears else LOOK_S))
        if people_at <= now < people_at + AGAIN_S:
            moments.append(people_at + AGAIN_S)
    return min([*moments, *(begin for token in every if (begin := _begins(token)) > now)], default=None)


def derived_tokens(token: Token, tokens: Iterable[Token]) -> frozenset[str]:
    """Return the digests of the app cookies that were issued from a login.

    Each has the id of the login as its name, and ends with the login.
    """
    return frozenset(t.digest for t in tokens if t.kind == BROWSER and t.app_id and t.name == token.id)


def room_for(kind: str, uid: int, tokens: Iterable[Token], now: float) -> frozenset[str]:
    """Return the digests of the user's tokens to delete so that one more of ``kind`` fits the limit.

    Expired ones go first, then the oldest. Raises :class:`LimitReached` if a valid named token would have to go,
    because a user relies on it.
    """
    own = sorted((t for t in tokens if t.uid == uid and t.kind == kind), key=lambda t: (counts(t, now), t.created_at))
    over = own[: max(0, len(own) + 1 - MOST[kind])]
    if kind == NAMED and any(counts(t, now) for t in over):
        raise LimitReached(f"you have {len(own)} tokens, which is the limit", hint="flytectl token revoke NAME")
    return frozenset(t.digest for t in over)


def ingress_table(tokens: Iterable[Token], operators: Mapping[tuple[int, str], bool], now: float) -> dict[str, str]:
    """Build HAProxy's table of tokens: digest → ``"<expires> <app id or *> <user>"``.

    ``operators``: for each owner (uid, name), whether they may operate apps now. A browser token without an app is
    left out: it is for the gateway's pages, for which the gateway asks flyted, and opens no app.
    """
    return {
        t.digest: f"{int(t.expires_at)} {t.app_id or ANY_APP} {user_word(t)}"
        for t in tokens
        if counts(t, now) and operators.get((t.uid, t.user), False) and (t.app_id or t.kind != BROWSER)
    }


def user_word(token: Token) -> str:
    """Return the owner as one word for a header: the name, or the uid if the name has unusual characters."""
    return token.user if _USER.fullmatch(token.user) else str(token.uid)
