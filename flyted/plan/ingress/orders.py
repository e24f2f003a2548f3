"""Decides which certificates are ordered from an ACME authority, and when. Pure.

A site whose certificates come from such an authority has one for each app, or one for all apps if it proves its names
by DNS. Each is an order of its own: it fails and is repeated by itself. Times are seconds since 1970.

The waits stay below two limits of Let's Encrypt (letsencrypt.org/docs/rate-limits): five failed validations an hour
for a name, and 300 orders in three hours. Its third one, 50 new names of a domain a week, is told by the authority,
and nothing is ordered from it then for an hour. Certificates are renewed at two thirds of their life.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from flyted.contract.names import host_of, own_host
from flyted.plan.ingress.sites import AcmeSettings, Site, hosts

AT_A_TIME = 4
"""The most orders that are under way at a time."""
MOST_AN_HOUR = 3
"""The most orders for a name that fail within an hour."""
HOUR = 3600.0
MOST_IN_WINDOW, WINDOW_S = 250, 3 * HOUR
"""The most orders at an authority within three hours."""
_FIRST_WAIT_S = 300.0
_LONGEST_WAIT_S = 86400.0
_SPREAD = 0.02
"""The part of a certificate's life by which renewals are spread, so that all apps' are not due at one moment."""


@dataclass(frozen=True)
class Order:
    """What is known of one certificate.

    ``name``: the host name that it is for, perhaps with ``*.`` before it. ``server``: the authority that gave the
    certificate that there is. ``begins``, ``ends``: its dates; 0 if there is none, or another authority gave it.
    ``failed``: when the latest orders since then failed, oldest first. ``why``: how the last one did; ``hint``: what
    to do about that. ``asked``: somebody wants another try now. ``revoke``: the current certificate is to be
    revoked once another one is shown. ``ordered_at``: when this run of flyted got the certificate. ``not_before``:
    when the authority takes orders again.
    """

    name: str
    site: str
    server: str = ""
    begins: float = 0.0
    ends: float = 0.0
    failed: tuple[float, ...] = ()
    why: str = ""
    hint: str = ""
    asked: bool = False
    revoke: bool = False
    ordered_at: float = 0.0
    not_before: float = 0.0


def wanted_names(sites: Sequence[Site], labels: Collection[str], custom: Iterable[str] = ()) -> dict[str, str]:
    """Return the names for which certificates are ordered, each with the domain of the site whose authority gives it.

    ``labels``: the ids and subdomains of apps. ``custom``: their custom domains, whose certificates come from the
    authority of the oldest site that has one.
    """
    found: dict[str, str] = {}
    for site in sites:
        if site.acme is None:
            continue
        more = [own_host(site.domain)] if site.api else []
        names = hosts(site.domain)[:1] if site.acme.dns else [*(host_of(each, site.domain) for each in labels), *more]
        found.update(dict.fromkeys(names, site.domain))
    first = next((site.domain for site in sites if site.acme is not None), None)
    return {**dict.fromkeys(custom, first), **found} if first is not None else {}


def settings_of(name: str, site: Site) -> AcmeSettings | None:
    """Return how the certificate for a name is ordered: a custom domain is in no zone that flyted may change."""
    if site.acme is None or name.endswith(f".{site.domain}"):
        return site.acme
    return replace(site.acme, dns="")


def due(order: Order) -> float:
    """Return when a certificate is to be ordered; 0 means at once."""
    life = order.ends - order.begins
    at = order.begins + life * (2 / 3 - _SPREAD * _spread(order.name)) if order.ends else 0.0
    if order.ends:  # one that is old when it comes, or a clock that is wrong, must not have it ordered for ever
        at = max(at, order.ordered_at + min(HOUR, life / 4))
    if order.revoke:
        at = 0.0
    if order.asked or order.failed:
        at = max(0.0 if order.asked else at, retry_at(order.failed, asked=order.asked))
    return max(at, order.not_before)


def retry_at(failed: Sequence[float], *, asked: bool) -> float:
    """Return when to try again what has failed at these times; 0: it has not failed.

    ``asked``: somebody wants another try as soon as the limits permit.
    """
    if asked or not failed:
        return allowed_at(failed)
    return max(failed[-1] + wait_s(len(failed)), allowed_at(failed))


def wait_s(failures: int) -> float:
    """Return how long to wait after so many failures in a row: 5 minutes, then four times as long each time."""
    return min(_FIRST_WAIT_S * 4.0 ** min(failures - 1, 8), _LONGEST_WAIT_S)


def allowed_at(failed: Sequence[float]) -> float:
    """Return the first moment at which a failure would not be one too many within an hour."""
    return failed[-MOST_AN_HOUR] + HOUR if len(failed) >= MOST_AN_HOUR else 0.0


def plan_orders(
    orders: Iterable[Order], under_way: Collection[str], now: float
) -> tuple[tuple[str, ...], float | None]:
    """Return the names to order now, and the next moment at which time alone changes that.

    The end of each order asks for another plan.
    """
    return next_ones(((due(order), order.name) for order in orders), under_way, now)


def next_ones(
    dues: Iterable[tuple[float, str]], under_way: Collection[str], now: float
) -> tuple[tuple[str, ...], float | None]:
    """Return what to begin now, and the next moment at which time alone changes that.

    ``dues``: when each is due. A few are under way at a time.
    """
    waiting = sorted((at, each) for at, each in dues if each not in under_way)
    room = max(0, AT_A_TIME - len(under_way))
    now_due = [each for at, each in waiting if at <= now]
    later = next((at for at, _each in waiting if at > now), None)
    return tuple(now_due[:room]), later


def failed(order: Order, now: float, why: str, hint: str) -> Order:
    """Return what is known after an order has failed."""
    return replace(order, failed=more(order.failed, now), why=why, hint=hint, asked=False)


def after_the_clock_was_set(order: Order, now: float) -> Order:
    """Return an order without the failures of a time that has not come: the clock was wrong then."""
    return replace(order, failed=past(order.failed, now))


def more(failed: tuple[float, ...], now: float) -> tuple[float, ...]:
    """Return the times of failures after another one; ten are kept."""
    return (*failed, now)[-10:]


def past(failed: tuple[float, ...], now: float) -> tuple[float, ...]:
    """Return the times that have come."""
    return tuple(at for at in failed if at <= now)


@lru_cache(maxsize=4096)
def _spread(name: str) -> float:
    """Return a number from 0 to 1 that is always the same for a name."""
    return hashlib.sha256(name.encode()).digest()[0] / 255
