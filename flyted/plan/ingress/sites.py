"""The base domains at which apps are served besides the machine's own: a site each. Pure.

An app has the same label at every site: ``hello.apps.localhost`` is also ``hello.apps.example.org``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from flyted.contract.errors import AlreadyExists, InvalidInput
from flyted.contract.names import GATEWAY_HOST, INTERNAL_DOMAIN, own_host, printable
from flyted.plan.ingress.state import LOOPBACK

OWN_CA, FILE, ACME = "own-ca", "file", "acme"
"""How a site's certificates come: from this machine, from files of its operator, or from an ACME authority."""
POLICIES = (OWN_CA, FILE, ACME)
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  only after the operator has said yes
WARN_S = 14 * 86400
"""Seconds before its end at which a certificate that flyted cannot renew is warned about."""


_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
_SERVER = re.compile(
    r"https://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._/-]{0,255})?"
)
_PROVIDER = re.compile(r"[a-z0-9-]{1,32}")
_MOST_CA = 65536
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_PRIVATE = ("local", "lan", "internal", "home", "test", "invalid", "onion")


@dataclass(frozen=True)
class AcmeSettings:
    """Where certificates are ordered, and how names are proved.

    ``server``: the address of the authority's directory. ``server_ca``: the certificates by which that server is
    trusted, as PEM; "": those of the machine. ``dns``: lego's name of the DNS provider; "": names are proved by HTTP.
    """

    email: str
    server: str
    server_ca: str = ""
    dns: str = ""


@dataclass(frozen=True)
class Site:
    """A base domain. ``certificate``: one of :data:`POLICIES`. ``created_at``: seconds since 1970.

    ``acme``: how certificates are ordered, if they are. ``api``: whether flyted's API is served there, too.
    ``redirect``: the base domain that clients of apps are sent to; "": they are served.
    """

    domain: str
    certificate: str
    created_at: float
    acme: AcmeSettings | None = None
    api: bool = False
    redirect: str = ""


def hosts(domain: str) -> tuple[str, ...]:
    """Return the names that a site's certificate is shown for."""
    return f"*.{domain}", domain


def is_multicast(domain: str) -> bool:
    """Report whether names below a domain are looked up in the local network only (RFC 6762)."""
    return domain.endswith(".local")


def domains(sites: Iterable[Site], base_domain: str) -> dict[str, str]:
    """Return the ingress's table of base domains: each leads to the machine's own."""
    return {site.domain: base_domain for site in sites}


def redirects(sites: Sequence[Site]) -> dict[str, str]:
    """Return the ingress's table of base domains that redirect, each to another one, at which apps are served."""
    served = {site.domain for site in sites if not site.redirect}
    return {site.domain: site.redirect for site in sites if site.redirect in served}


def check_redirect(domain: str, to: str, sites: Iterable[Site]) -> None:
    """Raise :class:`InvalidInput` for a redirect that leads nowhere, or on to another one; ``to`` "" ends it."""
    others = {site.domain: site for site in sites if site.domain != domain}
    if not to:
        return
    if to not in others:
        raise InvalidInput(
            f"apps are not served at {printable(to)}; the target must be another base domain of this machine",
            hint="flytectl domain ls",
        )
    if further := others[to].redirect:
        raise InvalidInput(f"{to} itself redirects to {further}", hint=f"redirect to {further}")
    check_no_target(domain, others.values())


def check_no_target(domain: str, sites: Iterable[Site]) -> None:
    """Raise :class:`InvalidInput` for a domain that others redirect to."""
    for site in sites:
        if site.redirect == domain:
            raise InvalidInput(
                f"{site.domain} redirects to {domain}",
                hint=f"first: sudo flytectl domain set {site.domain} --redirect-to OTHER, or domain rm {site.domain}",
            )


def apis(sites: Iterable[Site]) -> dict[str, str]:
    """Return the names at which flyted's API is served besides its own, for the ingress's table of names."""
    return {own_host(site.domain): GATEWAY_HOST for site in sites if site.api}


def authorities(sites: Iterable[Site]) -> dict[str, str]:
    """Return the names at which the authorities of domains that this machine signs for are handed out."""
    return {own_host(site.domain): site.domain for site in sites if site.certificate == OWN_CA}


def addresses(configured: tuple[str, ...], sites: Collection[Site]) -> tuple[str, ...]:
    """Return the addresses that the ingress listens on: with a site, every one, unless the settings name others."""
    return EVERYWHERE if sites and set(configured) <= set(LOOPBACK) else configured


def acme_settings(given: Mapping[str, Any]) -> AcmeSettings:
    """Return how certificates are ordered. Raises :class:`InvalidInput` for what no authority or lego would take."""
    names = [field.name for field in fields(AcmeSettings)]
    if sorted(given) != sorted(names) or not all(isinstance(value, str) for value in given.values()):
        raise InvalidInput(f"an order of certificates takes the texts {', '.join(names)}")
    email, server, dns = given["email"], given["server"], given["dns"]
    if len(given["server_ca"]) > _MOST_CA or (given["server_ca"] and _CERTIFICATE not in given["server_ca"]):
        raise InvalidInput("the certificate of the ACME server is not one in PEM form")
    if _EMAIL.fullmatch(email) is None:
        raise InvalidInput(
            f"{printable(email)} is not an e-mail address", hint="give one with --email, for the authority's account"
        )
    if _SERVER.fullmatch(server) is None:
        raise InvalidInput(
            f"{printable(server)} is not the address of an ACME directory", hint="it begins with https://"
        )
    if dns and _PROVIDER.fullmatch(dns) is None:
        raise InvalidInput(f"{printable(dns)} is not a DNS provider of lego", hint="lego dnshelp lists them")
    return AcmeSettings(**given)


def check_public(domain: str) -> None:
    """Raise :class:`InvalidInput` for a domain for which no public authority gives a certificate (RFC 6762, 8375)."""
    if domain.rpartition(".")[2] in _PRIVATE or domain.endswith(".home.arpa"):
        raise InvalidInput(
            f"no authority gives certificates for {domain}: such names exist in a house only",
            hint=f"sudo flytectl domain set {domain} --own-ca",
        )


def check_free(domain: str, base_domain: str, sites: Iterable[Site], custom: Iterable[str] = ()) -> None:
    """Raise :class:`InvalidInput` or :class:`AlreadyExists` for a domain that cannot be a site.

    It may be neither above nor below another one: the host of an app could then be the other domain. ``custom``: the
    custom domains of apps, which are such names, too.
    """
    if domain == "localhost" or domain.endswith(".localhost"):
        raise InvalidInput(
            f"{domain} always means the client's own machine (RFC 6761)",
            hint="use a domain of yours, or a name below .lan or .home.arpa for a house",
        )
    if domain == INTERNAL_DOMAIN or overlap(domain, INTERNAL_DOMAIN):
        raise AlreadyExists(
            f"{domain} and {INTERNAL_DOMAIN}, at which apps call each other, would share names",
            hint="use a name such as apps.box.internal",
        )
    for other in (base_domain, GATEWAY_HOST, *(site.domain for site in sites)):
        if domain != other and overlap(domain, other):
            raise AlreadyExists(f"{domain} and {other} would share names: one is below the other")
    for name in custom:
        if domain == name or overlap(domain, name):
            raise AlreadyExists(f"{domain} and {name}, the custom domain of an app, would share names")
    if domain == base_domain:
        raise AlreadyExists(f"{domain} is the machine's own base domain (base_domain in flyted.toml)")


def overlap(one: str, other: str) -> bool:
    """Report whether one domain is below the other."""
    return one.endswith(f".{other}") or other.endswith(f".{one}")


def covers(names: Iterable[str], domain: str) -> bool:
    """Report whether a certificate for ``names`` is good for every app of a site (RFC 6125 6.4.3: one label)."""
    return f"*.{domain}" in {name.lower() for name in names}


def shown(sites: Sequence[Site], base_domain: str, preferred: str = "") -> str:
    """Return the base domain in the URLs of apps: the preferred one, else the oldest site, else the machine's own.

    If clients are redirected from that one, return where they come to.
    """
    known = [site.domain for site in sorted(sites, key=lambda site: site.created_at)]
    chosen = preferred if preferred in (*known, base_domain) else next(iter(known), base_domain)
    return redirects(sites).get(chosen, chosen)
