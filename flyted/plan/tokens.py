"""Which tokens count, for what, and how many there may be. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from flyted.contract.errors import LimitReached
from flyted.plan.facts import Token

SESSION, NAMED, BROWSER = "session", "named", "browser"
LIFE_S: Mapping[str, float] = {SESSION: 3600.0, BROWSER: 12 * 3600.0}
"""How long a token of a kind lives; a named one as long as its maker says, :data:`LONGEST_S` at most."""
LONGEST_S = 366 * 86400
MOST: Mapping[str, int] = {SESSION: 500, NAMED: 100, BROWSER: 200}
"""How many tokens of a kind one user has at most."""
EXPIRED_KEPT_S = 30 * 86400.0
"""How long an expired token of those that come by themselves is kept."""
DAY_S = 86400.0
CLOCK_S = 3600.0
"""How far the clock may be set back without an effect on tokens."""
ANY_APP = "*"

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}")


def counts(token: Token, now: float) -> bool:
    """Whether a token opens anything at ``now``.

    One that comes by itself lives for hours: if it has longer left, the clock was ahead when it was made. One with a
    name counts as long as its maker said.
    """
    left = token.expires_at - now
    return 0 < left <= LIFE_S.get(token.kind, float("inf")) + CLOCK_S


def newly_used(tokens: Iterable[Token], uses: Mapping[str, float]) -> dict[str, float]:
    """The day of the last use of each token for which a later one has come, by digest. ``uses``: moments, by digest.

    A day is as fine as it gets: so a token costs at most one write a day, however often it is used. Those that live
    for an hour are not worth one.
    """
    days = {digest: at // DAY_S * DAY_S for digest, at in uses.items()}
    known = (t for t in tokens if t.kind != SESSION and t.digest in days)
    return {t.digest: days[t.digest] for t in known if days[t.digest] > t.used_at}


def dead(tokens: Iterable[Token], apps: frozenset[str], now: float) -> frozenset[str]:
    """Digests of tokens to be deleted: for an app that is gone, or long expired.

    An expired token opens nothing, and stays for a while: the clock that says so may be wrong. One with a name stays
    until its owner needs its name or place, since nobody gets its text a second time.
    """
    return frozenset(
        t.digest for t in tokens
        if (t.app_id and t.app_id not in apps) or (t.kind != NAMED and t.expires_at + EXPIRED_KEPT_S <= now)
    )  # fmt: skip


def offspring(token: Token, tokens: Iterable[Token]) -> frozenset[str]:
    """Digests of the apps' cookies that came of a login: they carry its id as their name, and end with it."""
    return frozenset(t.digest for t in tokens if t.kind == BROWSER and t.app_id and t.name == token.id)


def room_for(kind: str, uid: int, tokens: Iterable[Token], now: float) -> frozenset[str]:
    """Digests of tokens that a user's next one takes the place of: expired ones, then the oldest.

    Raises :class:`LimitReached` when only named ones are left that count: somebody relies on each of them.
    """
    own = sorted((t for t in tokens if t.uid == uid and t.kind == kind), key=lambda t: (counts(t, now), t.created_at))
    over = own[: max(0, len(own) + 1 - MOST[kind])]
    if kind == NAMED and any(counts(t, now) for t in over):
        raise LimitReached(f"you have {len(own)} tokens, the most there may be", hint="flytectl token revoke NAME")
    return frozenset(t.digest for t in over)


def grants(tokens: Iterable[Token], operators: Mapping[tuple[int, str], bool], now: float) -> dict[str, str]:
    """HAProxy's table of tokens: digest → ``"<expires> <app id or *> <user>"``.

    ``operators`` says of each owner (uid, name) whether they may operate apps now. A browser's token of no app is for
    the gateway's pages, which ask flyted; it opens no app.
    """
    return {
        t.digest: f"{int(t.expires_at)} {t.app_id or ANY_APP} {user_word(t)}"
        for t in tokens
        if counts(t, now) and operators.get((t.uid, t.user), False) and (t.app_id or t.kind != BROWSER)
    }


def user_word(token: Token) -> str:
    """The owner as one word for a header: the name, or the uid where a name has odd characters."""
    return token.user if _USER.fullmatch(token.user) else str(token.uid)
