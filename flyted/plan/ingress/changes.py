"""Finds the commands that turn HAProxy's state into the wanted one. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable
from flyted.plan.ingress.auth import GUARDED, TOKENS
from flyted.plan.ingress.clients import LIMITS
from flyted.plan.ingress.paths import OPEN_PATHS, RESTRICTED, host_of
from flyted.plan.ingress.state import (
    AUTHORITIES,
    BACKEND,
    CHALLENGES,
    CONTROL,
    DOMAINS,
    FILES,
    HOSTS,
    NAMES,
    REDIRECTS,
    TABLES,
    TIMEOUTS,
    UNAVAILABLE,
    IngressState,
    Live,
    Server,
    reason_values,
)


def draining(live: Live, wanted: IngressState) -> frozenset[str]:
    """Return the servers that are not wanted any more and still have requests.

    They are not deleted before a later :func:`changes`.
    """
    unwanted = live.state.servers.keys() - wanted.servers.keys()
    return frozenset(n for n in unwanted if n in live.traffic and live.traffic[n].busy)


def changes(live: Live, wanted: IngressState, files: str = FILES) -> list[str]:
    """Return commands for HAProxy's runtime API that turn its state into the wanted one.

    Requests can be served at every moment between two commands: a server exists before a host leads to it, one command
    replaces a host's old server by the new one, and a server is deleted only when no host leads to it and nothing is
    in flight. Source: HAProxy's management.txt, section 9.3.
    """
    have = live.state
    table = {name: f"{files}/{name}" for name in TABLES}
    busy = draining(live, wanted)
    gone = sorted(have.servers.keys() - wanted.servers.keys() - busy)
    limits, old_limits = wanted.timeouts_ms, have.timeouts_ms
    why, old_why = (reason_values(s) for s in (wanted, have))
    closing = {key: "" for key in have.open_paths if host_of(key) in wanted.restricted}
    return [
        *_set(table[OPEN_PATHS], have.open_paths, wanted.open_paths),
        *_set(table[RESTRICTED], have.restricted, wanted.restricted),
        *_unset(table[OPEN_PATHS], closing, wanted.open_paths),  # before the new revision serves such a path
        *_set(table[LIMITS], have.limits, wanted.limits),
        *_set(table[GUARDED], have.guarded, wanted.guarded),  # before the app can be reached
        *_set(table[UNAVAILABLE], old_why, why),
        *_set(table[TIMEOUTS], old_limits, limits),
        *(command for server in _unlike(have.servers, wanted.servers) for command in _server(server, live)),
        *(f"enable server {BACKEND}/{n}" for n in sorted(live.resting & wanted.servers.keys() & have.servers.keys())),
        *_set(table[HOSTS], have.hosts, wanted.hosts),
        *_set(table[DOMAINS], have.domains, wanted.domains),
        *_set(table[REDIRECTS], have.redirects, wanted.redirects),
        *_set(table[NAMES], have.names, wanted.names),
        *_set(table[CHALLENGES], have.challenges, wanted.challenges),
        *_unset(table[CHALLENGES], have.challenges, wanted.challenges),
        *_set(table[AUTHORITIES], have.authorities, wanted.authorities),
        *_unset(table[AUTHORITIES], have.authorities, wanted.authorities),
        *_unset(table[NAMES], have.names, wanted.names),
        *_unset(table[REDIRECTS], have.redirects, wanted.redirects),
        *_unset(table[DOMAINS], have.domains, wanted.domains),
        *_unset(table[HOSTS], have.hosts, wanted.hosts),
        *_unset(table[UNAVAILABLE], old_why, why),
        *(c for n in gone for c in (f"set server {BACKEND}/{n} state maint", f"del server {BACKEND}/{n}")),
        *_unset(table[TIMEOUTS], old_limits, {**limits, **dict.fromkeys(busy, 0)}),
        *_unset(table[LIMITS], have.limits, wanted.limits),
        *_unset(table[GUARDED], have.guarded, wanted.guarded),
        *_unset(table[RESTRICTED], have.restricted, wanted.restricted),
        *_unset(table[OPEN_PATHS], have.open_paths, {**closing, **wanted.open_paths}),
    ]


def token_changes(have: Mapping[str, str], wanted: Mapping[str, str], files: str = FILES) -> list[str]:
    """Return commands that turn HAProxy's map of tokens into the wanted one. Removals come first."""
    table = f"{files}/{TOKENS}"
    return [*_unset(table, have, wanted), *_set(table, have, wanted)]


def _unlike(have: Mapping[str, Server], wanted: Mapping[str, Server]) -> list[Server]:
    return [server for name, server in wanted.items() if (known := have.get(name)) is not server and known != server]


def _server(server: Server, live: Live) -> list[str]:
    name, known = f"{BACKEND}/{server.name}", live.state.servers.get(server.name)
    if known is None:
        return [f"add server {name} {server.words}", f"enable server {name}"]
    return [] if known.maxconn == server.maxconn else [f"set maxconn server {name} {server.maxconn}"]


def _set(table: str, have: Mapping[str, str | int], wanted: Mapping[str, str | int]) -> list[str]:
    """Return the commands for new and changed entries.

    `add map` of a key that exists would add a second entry, and `set map` of a missing key fails.
    """
    return [
        f"{'set' if key in have else 'add'} map {table} {key} {word(str(value))}"
        for key, value in sorted(wanted.items() - have.items())
    ]


def _unset(table: str, have: Mapping[str, str | int], wanted: Mapping[str, str | int]) -> list[str]:
    return [f"del map {table} {key}" for key in sorted(have.keys() - wanted.keys())]


def word(value: str) -> str:
    """Return a value as one word of HAProxy's command line.

    A backslash precedes every character that could end a word or a command. Raises :class:`InvalidInput` for a value
    that is empty or has a control character.
    """
    if not value or CONTROL.search(value):
        raise InvalidInput(f"{printable(value)} is empty or contains a control character")
    return re.sub(r"([^A-Za-z0-9._:/\u0080-\U0010ffff-])", r"\\\1", value)
