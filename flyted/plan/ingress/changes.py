"""Finds the commands that turn HAProxy's state into the wanted one. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable
from flyted.plan.ingress import kept
from flyted.plan.ingress.auth import GUARDED, TOKENS
from flyted.plan.ingress.clients import LIMITS
from flyted.plan.ingress.no_wake import AWAKE
from flyted.plan.ingress.paths import OPEN_PATHS, RESTRICTED, host_of
from flyted.plan.ingress.pools import place
from flyted.plan.ingress.start_page import COLD, STEPS
from flyted.plan.ingress.state import (
    AUTHORITIES,
    CALLERS,
    CALLS,
    CHALLENGES,
    CONTROL,
    DOMAINS,
    FILES,
    HOSTS,
    KEPT,
    NAMES,
    REDIRECTS,
    STICKY,
    TABLES,
    TIMEOUTS,
    UNAVAILABLE,
    WATCHED,
    IngressState,
    Live,
    Server,
    reason_values,
)


def draining(live: Live, wanted: IngressState) -> frozenset[str]:
    """Return the servers that are not wanted any more and still have requests.

    They are not deleted before a later :func:`changes`.
    """
    return frozenset(s.name for s in _unwanted(live, wanted) if s.name in live.traffic and live.traffic[s.name].busy)


def _unwanted(live: Live, wanted: IngressState) -> list[Server]:
    """Return the servers that are not wanted any more, or in another backend, sorted by name."""
    have, want = live.state.servers, wanted.servers
    moved = {name for name, server in have.items() if want.get(name, server).pool != server.pool}
    return [have[name] for name in sorted((have.keys() - want.keys()) | moved)]


def changes(live: Live, wanted: IngressState, files: str = FILES) -> list[str]:
    """Return commands for HAProxy's runtime API that turn its state into the wanted one.

    Requests can be served at every moment between two commands: a server exists before a host leads to it, one command
    replaces a host's old server by the new one, and a server is deleted only when no host leads to it and nothing is
    in flight. The map of kept connections leads only to twins that take requests. In a pool a new revision's servers
    get requests before the old one's get none. No host leads to a pool with another app's
    servers. Source: HAProxy's management.txt, section 9.3.
    """
    have = live.state
    table = {name: f"{files}/{name}" for name in TABLES}
    busy, unwanted = draining(live, wanted), _unwanted(live, wanted)
    limits, old_limits = wanted.timeouts_ms, have.timeouts_ms
    why, old_why = (reason_values(s) for s in (wanted, have))
    closing = {key: "" for key in have.open_paths if host_of(key) in wanted.restricted}
    pools = {server.pool for server in wanted.servers.values() if server.pool}
    # hosts of apps that had a pool which is another's now: only if HAProxy missed what happened in between
    other = {host: name for host, name in have.hosts.items() if name in pools and wanted.hosts.get(host) != name}
    hosts = {host: name for host, name in have.hosts.items() if host not in other}
    keeping = kept.table(wanted.servers.values())
    return [
        *_unset(table[KEPT], live.kept, keeping),  # first: nothing that follows is to meet a kept connection
        *_unset(table[AWAKE], have.awake, wanted.awake),
        *_unset(table[CALLS], have.calls, wanted.calls),  # before an address can be another app's
        *_unset(table[CALLERS], have.callers, wanted.callers),
        *_set(table[CALLERS], have.callers, wanted.callers),
        *_set(table[CALLS], have.calls, wanted.calls),
        *_unset(table[HOSTS], other, {}),
        *_set(table[OPEN_PATHS], have.open_paths, wanted.open_paths),
        *_set(table[RESTRICTED], have.restricted, wanted.restricted),
        *_unset(table[OPEN_PATHS], closing, wanted.open_paths),  # before the new revision serves such a path
        *_set(table[LIMITS], have.limits, wanted.limits),
        *_set(table[GUARDED], have.guarded, wanted.guarded),  # before the app can be reached
        *_set(table[STICKY], have.sticky, wanted.sticky),
        *_set(table[WATCHED], have.watched, wanted.watched),
        *_set(table[STEPS], have.steps, wanted.steps),
        *_set(table[UNAVAILABLE], old_why, why),
        *_set(table[TIMEOUTS], old_limits, limits),
        *(command for server in _unlike(have.servers, wanted.servers) for command in _server(server, live)),
        *_enabled(live, wanted),
        *_resting(live, wanted),
        *_twins(live, wanted),
        *_set(table[KEPT], live.kept, keeping),
        *(f"set server {place(s)} state maint" for s in unwanted if s.pool in pools and s.name not in live.resting),
        *_set(table[HOSTS], hosts, wanted.hosts),
        *_set(table[AWAKE], have.awake, wanted.awake),
        *_set(table[COLD], have.cold, wanted.cold),
        *_unset(table[COLD], have.cold, wanted.cold),  # lets visits go on, now that all leads there
        *_unset(table[STEPS], have.steps, wanted.steps),
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
        *_unset(table[HOSTS], hosts, wanted.hosts),
        *_unset(table[UNAVAILABLE], old_why, why),
        *(command for name in _lost_twins(live, wanted, busy) for command in _gone(name)),
        *(command for server in unwanted if server.name not in busy for command in _gone(place(server))),
        *_unset(table[TIMEOUTS], old_limits, {**limits, **dict.fromkeys(busy, 0)}),
        *_unset(table[STICKY], have.sticky, wanted.sticky),
        *_unset(table[WATCHED], have.watched, wanted.watched),
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
    name, known = place(server), live.state.servers.get(server.name)
    if known is None or not _is_known(server, live):
        return [f"add server {name} {server.words}", *([] if server.rests else [f"enable server {name}"])]
    return [] if known.maxconn == server.maxconn else [f"set maxconn server {name} {server.maxconn}"]


def _enabled(live: Live, wanted: IngressState) -> list[str]:
    found = (wanted.servers.get(name) for name in sorted(live.resting))
    return [f"enable server {place(each)}" for each in found if each and _is_known(each, live) and not each.rests]


def _resting(live: Live, wanted: IngressState) -> list[str]:
    new = sorted(each.name for each in wanted.servers.values() if each.rests and each.name not in live.resting)
    found = (wanted.servers[name] for name in new)
    return [f"set server {place(each)} state maint" for each in found if _is_known(each, live)]


def _is_known(server: Server, live: Live) -> bool:
    known = live.state.servers.get(server.name)
    return known is not None and known.pool == server.pool


def _twins(live: Live, wanted: IngressState) -> Iterator[str]:
    """Yield the commands that make the twins that are wanted take requests.

    The others take none once they are not in the map. What ends their idle connections is ``end_kept`` in
    host/ingress.py.
    """
    for server in wanted.servers.values():
        if server.kept and not live.twins.get(name := kept.twin(server.name)):
            if name not in live.twins:
                yield f"add server {name} {kept.words(server)}"
            yield f"enable server {name}"


def _lost_twins(live: Live, wanted: IngressState, busy: Collection[str]) -> list[str]:
    """Return the twins whose server is not wanted any more and has no request, or is gone already."""
    if not live.twins:
        return []
    return sorted(live.twins.keys() - {kept.twin(name) for name in (*wanted.servers, *busy)})


def _gone(name: str) -> list[str]:
    return [f"set server {name} state maint", f"del server {name}"]


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
