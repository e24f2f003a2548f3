"""Decides when ACME authorities are asked to revoke certificates. Pure.

A certificate is revoked only when the ingress does not have it any more: visitors would refuse it. Times are seconds
since 1970.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from flyted.plan.ingress.orders import more, next_ones, past, retry_at
from flyted.plan.ingress.sites import AcmeSettings

WANTED, REVOKED = "wanted", "revoked"


@dataclass(frozen=True)
class Issued:
    """A certificate that an authority gave; what is known of it outlives its app and its site.

    ``fingerprint``: its SHA-256. ``name``: the host name that it is for. ``site``: the domain that it was ordered for.
    ``settings``: the account that ordered it. ``ends``: when clients stop trusting it. ``revoke``: :data:`WANTED`,
    :data:`REVOKED`, or "". ``failed``: when the authority was asked in vain to revoke it, oldest first. ``why``: what
    it said last; ``hint``: what to do about that. ``asked``: somebody wants another try now. ``not_before``: when the
    authority takes requests again.
    """

    fingerprint: str
    name: str
    site: str
    settings: AcmeSettings
    ends: float
    revoke: str = ""
    failed: tuple[float, ...] = ()
    why: str = ""
    hint: str = ""
    asked: bool = False
    not_before: float = 0.0


def due(issued: Issued) -> float:
    """Return when the authority is to be asked; 0 means at once."""
    return max(retry_at(issued.failed, asked=issued.asked), issued.not_before)


def plan_revocations(
    ready: Iterable[Issued], under_way: Collection[str], now: float
) -> tuple[tuple[str, ...], float | None]:
    """Return the fingerprints of the certificates to revoke now, and the next moment at which time alone changes that.

    ``ready``: those that may be revoked. The end of each revocation asks for another plan.
    """
    return next_ones(((due(each), each.fingerprint) for each in ready), under_way, now)


def chosen(issued: Iterable[Issued], name: str) -> tuple[Issued, ...]:
    """Return the certificates that somebody wants to have revoked.

    ``name``: all of that name; "": all, except those that were ordered in place of one that is not revoked yet.
    """
    found = [each for each in issued if each.revoke != REVOKED and name in ("", each.name)]
    replaced = set() if name else {each.name for each in found if each.revoke == WANTED}
    return tuple(each for each in found if each.revoke == WANTED or each.name not in replaced)


def wanted(issued: Issued) -> Issued:
    """Return a certificate that is to be revoked; the authority's limits hold if it was asked in vain before."""
    return replace(issued, revoke=WANTED, asked=True)


def failed(issued: Issued, now: float, why: str, hint: str) -> Issued:
    """Return what is known after the authority was asked in vain."""
    return replace(issued, failed=more(issued.failed, now), why=why, hint=hint, asked=False)


def after_the_clock_was_set(issued: Issued, now: float) -> Issued:
    """Return a certificate without the failures of a time that has not come: the clock was wrong then."""
    return replace(issued, failed=past(issued.failed, now))
