"""The names of apps besides the one that follows from their id: a subdomain, and a custom domain. Pure.

Source: ``Domain`` and ``Subdomain`` in the SDK's flyte/app/_types.py. On a cluster a subdomain takes the place of an
app's own; here the app answers at both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from flyted.contract.app import AppSpec
from flyted.contract.errors import AlreadyExists
from flyted.contract.names import GATEWAY_HOST, GATEWAY_LABEL, INTERNAL_DOMAIN, host_of
from flyted.plan.facts import StoredApp
from flyted.plan.ingress.sites import Site, overlap


def orders(sites: Iterable[Site]) -> bool:
    """Report whether certificates are ordered from an authority: without one, a custom domain has none."""
    return any(site.acme is not None for site in sites)


def others(spec: AppSpec, base_domain: str, sites: Sequence[Site]) -> tuple[str, ...]:
    """Return the host names of an app besides its own at each base domain."""
    domains = (base_domain, *(site.domain for site in sites)) if spec.subdomain else ()
    custom = (spec.custom_domain,) if spec.custom_domain and orders(sites) else ()
    return (*(host_of(spec.subdomain, domain) for domain in domains), *custom)


def shown(app_id: str, spec: AppSpec | None, url_domain: str, sites: Sequence[Site]) -> str:
    """Return the host name in an app's URL. ``url_domain``: the base domain in the URLs of apps."""
    if spec is not None and spec.custom_domain and orders(sites):
        return spec.custom_domain
    return host_of(spec.subdomain if spec is not None and spec.subdomain else app_id, url_domain)


def notes(spec: AppSpec, sites: Sequence[Site]) -> Iterator[str]:
    """Yield a note if a name of the file has no effect now."""
    if spec.custom_domain and not orders(sites):
        yield (
            f"custom_domain={spec.custom_domain!r} has no effect before certificates are ordered: "
            "sudo flytectl domain set DOMAIN --email ADDRESS"
        )


def check(spec: AppSpec, apps: Iterable[StoredApp], base_domain: str, sites: Sequence[Site]) -> None:
    """Raise :class:`AlreadyExists` for a name of an app that is another's, or that is not an app's to have."""
    if GATEWAY_LABEL in (spec.key.id, spec.subdomain):
        raise AlreadyExists(
            f"{GATEWAY_LABEL!r} is the name of flyted's API at each base domain",
            hint="give the app another name or subdomain",
        )
    custom = spec.custom_domain
    if custom == "localhost" or custom.endswith(".localhost"):
        raise AlreadyExists(f"custom_domain={custom!r} always means the client's own machine (RFC 6761)")
    if custom == INTERNAL_DOMAIN or overlap(custom, INTERNAL_DOMAIN):
        raise AlreadyExists(f"custom_domain={custom!r} is a name of {INTERNAL_DOMAIN}, at which apps call each other")
    for domain in (base_domain, GATEWAY_HOST, *(site.domain for site in sites)) if custom else ():
        if custom == domain or overlap(custom, domain):
            raise AlreadyExists(
                f"custom_domain={custom!r} is a name of {domain}, at which other apps are served",
                hint=f'for a name below {domain} use subdomain="{custom.partition(".")[0]}"',
            )
    for app in apps:
        if app.key != spec.key:
            _check_other(spec, app)


def check_api(apps: Iterable[StoredApp]) -> None:
    """Raise :class:`AlreadyExists` if an app has the name of flyted's API: one that older versions let be served."""
    for app in apps:
        if GATEWAY_LABEL in (app.key.id, *(each.subdomain for each in claims(app))):
            raise AlreadyExists(
                f"flyted's API would have the name {GATEWAY_LABEL!r}, which is a name of app '{app.key}'",
                hint="serve the app by another name, or with another subdomain, first",
            )


def claims(app: StoredApp) -> list[AppSpec]:
    """Return the descriptions whose names an app has, or is about to have: what serves, and what is being started."""
    return [each.spec for each in app.revisions if each.number == app.serving or each.status == "pending"]


def _check_other(spec: AppSpec, app: StoredApp) -> None:
    """Raise :class:`AlreadyExists` if two apps would have one name."""
    theirs = claims(app)
    labels = {app.key.id, *(each.subdomain for each in theirs if each.subdomain)}
    if spec.subdomain in labels:
        raise AlreadyExists(f"subdomain={spec.subdomain!r} is a name of app '{app.key}'", hint="use another subdomain")
    if spec.key.id in labels:
        raise AlreadyExists(
            f"app '{spec.key}' would have the subdomain of app '{app.key}'", hint="name one of them otherwise"
        )
    if spec.custom_domain and spec.custom_domain in {each.custom_domain for each in theirs}:
        raise AlreadyExists(f"custom_domain={spec.custom_domain!r} is a name of app '{app.key}'")
