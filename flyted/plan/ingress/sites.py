"""The base domains at which apps are served besides the machine's own: a site each. Pure.

An app has the same label at every site: ``hello.apps.localhost`` is also ``hello.apps.example.org``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from flyted.contract.errors import AlreadyExists, InvalidInput
from flyted.contract.names import GATEWAY_HOST
from flyted.plan.ingress.state import LOOPBACK

OWN_CA, FILE = "own-ca", "file"
"""How a site's certificate comes: from an authority of this machine, or from files that its operator gave."""
POLICIES = (OWN_CA, FILE)
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  only after the operator has said yes
WARN_S = 14 * 86400
"""Seconds before its end at which a certificate that flyted cannot renew is warned about."""


@dataclass(frozen=True)
class Site:
    """A base domain. ``certificate``: one of :data:`POLICIES`. ``created_at``: seconds since 1970."""

    domain: str
    certificate: str
    created_at: float


def hosts(domain: str) -> tuple[str, ...]:
    """Return the names that a site's certificate is shown for."""
    return f"*.{domain}", domain


def domains(sites: Iterable[Site], base_domain: str) -> dict[str, str]:
    """Return the ingress's table of base domains: each leads to the machine's own."""
    return {site.domain: base_domain for site in sites}


def addresses(configured: tuple[str, ...], sites: Collection[Site]) -> tuple[str, ...]:
    """Return the addresses that the ingress listens on: with a site, every one, unless the settings name others."""
    return EVERYWHERE if sites and set(configured) <= set(LOOPBACK) else configured


def check_free(domain: str, base_domain: str, sites: Iterable[Site]) -> None:
    """Raise :class:`InvalidInput` or :class:`AlreadyExists` for a domain that cannot be a site.

    It may be neither above nor below another one: the host of an app could then be the other domain.
    """
    if domain == "localhost" or domain.endswith(".localhost"):
        raise InvalidInput(
            f"{domain} always means the client's own machine (RFC 6761)",
            hint="use a domain of yours, or a name below .lan or .home.arpa for a house",
        )
    for other in (base_domain, GATEWAY_HOST, *(site.domain for site in sites)):
        if domain != other and _overlap(domain, other):
            raise AlreadyExists(f"{domain} and {other} would share names: one is below the other")
    if domain == base_domain:
        raise AlreadyExists(f"{domain} is the machine's own base domain (base_domain in flyted.toml)")


def _overlap(one: str, other: str) -> bool:
    return one.endswith(f".{other}") or other.endswith(f".{one}")


def covers(names: Iterable[str], domain: str) -> bool:
    """Report whether a certificate for ``names`` is good for every app of a site (RFC 6125 6.4.3: one label)."""
    return f"*.{domain}" in {name.lower() for name in names}


def shown(sites: Sequence[Site], base_domain: str, preferred: str = "") -> str:
    """Return the base domain in the URLs of apps: the preferred one, else the oldest site, else the machine's own."""
    known = [site.domain for site in sorted(sites, key=lambda site: site.created_at)]
    if preferred in (*known, base_domain):
        return preferred
    return known[0] if known else base_domain
