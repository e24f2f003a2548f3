"""States of the ingress as values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from flyted.plan.idle import Traffic
from flyted.plan.ingress import kept
from flyted.plan.ingress.clients import limits_value
from flyted.plan.ingress.paths import keys
from flyted.plan.ingress.state import IngressState, Live, Server, Unavailable

QUIET = Traffic(in_flight=0, queued=0, started=1, answered=1, last_start_age_s=1.0, longest_s=0.1)
LOADED = replace(QUIET, in_flight=1)


def state(
    apps: dict[str, str], down: tuple[str, ...] = (), limits: dict[str, int] | None = None, guarded: str = "",
    restricted: dict[str, set[str]] | None = None, rates: dict[str, float] | None = None,
    domains: Collection[str] = (), names: dict[str, str] | None = None,
    pools: dict[str, tuple[int, dict[str, bool]]] | None = None,
) -> IngressState:  # fmt: skip
    """Hosts by letter → server names; every server named is there.

    ``guarded``: letters that want a token; ``restricted``: letters of which only these paths are open;
    ``rates``: letter → requests a second; ``domains``: other base domains; ``names``: other hosts → letter;
    ``pools``: letter → the number of a pool, and whether each of the servers in it gets requests.
    """
    restrictions, pooled = restricted or {}, pools or {}
    servers = {n: Server(n, f"/run/flyted/apps/{n}.sock") for n in sorted(set(apps.values()))}
    for number, members in pooled.values():
        for n, serves in members.items():
            servers[n] = Server(n, f"/run/flyted/apps/{n}.sock", pool=f"pool-{number}", rests=not serves)
    hosts = {**apps, **{letter: f"pool-{number}" for letter, (number, _members) in pooled.items()}}
    return IngressState(
        servers=servers,
        hosts={f"{h}.apps.localhost": n for h, n in hosts.items()},
        timeouts_ms=limits or {},
        unavailable={f"{h}.apps.localhost": Unavailable("it is stopped") for h in down},
        limits={f"{h}.apps.localhost": limits_value(rate, h2c=False) for h, rate in (rates or {}).items()},
        guarded={f"{h}.apps.localhost": h for h in guarded},
        restricted={f"{h}.apps.localhost": h for h in restrictions},
        domains=dict.fromkeys(domains, "apps.localhost"),
        names={name: f"{h}.apps.localhost" for name, h in (names or {}).items()},
        open_paths={k: v for h, paths in restrictions.items() for k, v in keys(f"{h}.apps.localhost", paths).items()},
    )


def live(have: IngressState, busy: tuple[str, ...] = (), resting: tuple[str, ...] = ()) -> Live:
    """As HAProxy tells it: without socket paths. Each server that is kept has its twin."""
    servers = {n: Server(n, "", s.maxconn, pool=s.pool, rests=s.rests, kept=s.kept) for n, s in have.servers.items()}
    traffic = {n: LOADED if n in busy else QUIET for n in servers}
    rest = {n for n, s in servers.items() if s.rests} | set(resting)
    twins = {kept.twin(s.name): True for s in have.servers.values() if s.kept}
    state = replace(have, servers=servers)
    return Live(state, traffic, frozenset(rest), kept=kept.table(have.servers.values()), twins=twins)
