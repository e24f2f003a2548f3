"""Decides which apps an app may call, and by which address the ingress knows it. Pure.

An app may call those of its own project and domain that its file or ``--may-call`` names. It asks the ingress, at
``NAME.apps.internal``, and the ingress knows the caller by its address: no app can send from another's
(flyted/net/plan.py). So a caller needs no token, and has none that it could lose.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from flyted.contract.app import AppSpec
from flyted.contract.errors import HostFailure
from flyted.contract.names import CALLS_ADDRESS, INTERNAL_DOMAIN, AppKey, Replica, host_of
from flyted.plan.facts import Facts, StoredApp
from flyted.plan.groups import Share

FIRST, FIRST_CLOSED, LAST = 1024, 2048, 3071
"""The numbers that callers may have; those of apps without egress begin at ``FIRST_CLOSED`` (flyted/net/plan.py)."""
ROUTES = "Routing the networks of apps, and calls between them"
"""What the router says (flyted/net/plan.py: STATUS)."""
HOSTS = "/etc/hosts"
ENDPOINTS = f"http://{{app_fqdn}}.{INTERNAL_DOMAIN}"
"""The pattern of an app's address, for the SDK (flyte/app/_app_environment.py: INTERNAL_APP_ENDPOINT_PATTERN)."""


def free_number(taken: Collection[int], *, egress: bool) -> int:
    """Return a number that no replica has. ``egress``: whether the app reaches more than apps.

    Raises :class:`HostFailure` if none is left.
    """
    numbers = range(FIRST, FIRST_CLOSED) if egress else range(FIRST_CLOSED, LAST + 1)
    free = next((number for number in numbers if number not in taken), None)
    if free is None:
        raise HostFailure(
            f"{len(numbers)} apps that call others are served already, which is the limit",
            hint="flytectl app delete NAME removes an app that is not needed any more",
        )
    return free


def suits(number: int, *, egress: bool) -> bool:
    """Report whether a number is of the range that :func:`free_number` chooses from."""
    return (FIRST <= number < FIRST_CLOSED) == egress


def with_units(replicas: Iterable[Replica], facts: Facts) -> set[Replica]:
    """Return the replicas that have a unit: they may run, with the address that they began with."""
    return {each for each in replicas if each.service in facts.units or each.socket in facts.units}


def is_old(status: str) -> bool:
    """Report whether the router is of a version without a way to other apps. ``status``: its own; "": it is not there.

    A router that has just begun says nothing yet.
    """
    return status not in ("", ROUTES)


def address(number: int) -> str:
    """Return the IPv4 address of the app with this number."""
    return f"198.18.{number >> 8}.{number & 255}"


def hosts(names: Sequence[str], machine: str) -> str:
    """Return a caller's /etc/hosts: the machine's, and the apps that it may call; "" for an app that calls none."""
    if not names:
        return ""
    before = machine if machine.endswith("\n") or not machine else f"{machine}\n"
    return before + "".join(f"{CALLS_ADDRESS} {name}.{INTERNAL_DOMAIN}\n" for name in names)


def of_app(
    app: StoredApp, replicas: Iterable[Replica], numbers: Mapping[Replica, int], base_domain: str, share: Share
) -> None:
    """Add to ``share`` what the ingress has to know of an app's replicas to answer their calls of other apps."""
    for replica in replicas:
        revision, number = app.revision(replica.revision), numbers.get(replica)
        if number is not None and revision is not None and revision.spec.calls:
            callers, called = entries(revision.spec, number, base_domain)
            share.callers.update(callers)
            share.calls.update(called)


def of_others(facts: Facts, more: AbstractSet[Replica], base_domain: str, share: Share) -> None:
    """Add to ``share`` the same of replicas that are being started, and of ``more``: of several, or draining."""
    others = (facts.candidates | more) & facts.numbers.keys()
    apps = {app.key.id: app for app in facts.apps} if others else {}
    for replica in others:
        if (app := apps.get(replica.app_id)) is not None:
            of_app(app, [replica], facts.numbers, base_domain, share)


def entries(spec: AppSpec, number: int, base_domain: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what the tables of callers and of calls have of the replica with this number (IngressState)."""
    own = address(number)
    called = {name: AppKey(spec.key.project, spec.key.domain, name) for name in spec.calls}
    return {own: str(spec.key)}, {f"{own}/{name}": host_of(key.id, base_domain) for name, key in called.items()}


def alias(key: AppKey, host: str) -> dict[str, str]:
    """Return the name by which the ingress finds an app whose id is not the usual one (``AppKey.known_as``)."""
    usual = AppKey(key.project, key.domain, key.name).id
    return {} if usual == key.id else {host_of(usual, INTERNAL_DOMAIN): host}


def callers(key: AppKey, apps: Iterable[StoredApp]) -> tuple[str, ...]:
    """Return the names of the apps whose serving revision may call this one."""
    others = (app for app in apps if (app.key.project, app.key.domain) == (key.project, key.domain))
    return tuple(sorted(app.key.name for app in others if app.current and key.name in app.current.spec.calls))


def notes(spec: AppSpec, served: Collection[str]) -> Iterator[str]:
    """Yield a note about apps that it may call and that are not there. ``served``: names of its project and domain."""
    missing = [name for name in spec.calls if name not in served]
    if missing:
        yield f"it may call {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not served yet"
