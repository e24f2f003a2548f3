"""What is looked at when the machine of ``life.py`` has come to rest."""

from __future__ import annotations

from collections.abc import Iterator

from flyted.contract.names import Replica, host_of
from flyted.contract.status import AppState
from flyted.plan.ingress.pools import pool_name
from flyted.plan.states import state_of
from tests.daemon.life import Life
from tests.values import DOMAIN

REST_S = 600.0
"""The longest pause after failures, a drain, a sleep and a wait for a GPU, with room to spare."""


def rest(life: Life) -> None:
    """Heal the machine, let it come to rest, and look that all is as it is wanted."""
    life.heal()
    life.run(REST_S)
    faults = [f"{each.verb} of {each.app} never ends" for each in life.asked if not each.end]
    faults += [f"a request of {each.came} to {each.app} never ends" for each in life.requests if not each.end]
    faults += [*_wrong_units(life), *_wrong_ingress(life), *_wrong_leases(life), *_lost_images(life)]
    for app in life.running.store.apps():
        if app.wanted == "started" and app.serving is not None:
            request = life.request(app.key.id)
            life.run(45)
            if request.end != "answered":
                faults.append(f"a request to {app.key.id} at rest: {request.end or 'waits'}")
    faults += _wrong_states(life)
    life.run(100)
    before = life.running.systemd.looks
    life.run(10_000)
    if life.running.systemd.looks > before:
        faults.append(f"the daemon looked {life.running.systemd.looks - before} times while nothing happened")
    assert not [*life.world.faults, *faults], "\n".join([*life.world.faults, *faults])


def _wanted(life: Life) -> dict[Replica, bool]:
    """Each replica that shall exist, and whether it shall always run."""
    return {
        replica: app.current.spec.min_replicas > 0
        for app in life.running.store.apps()
        for replica in app.serving_replicas
        if app.current is not None
    }  # fmt: skip


def _wrong_units(life: Life) -> Iterator[str]:
    wanted, pairs = _wanted(life), life.world.pairs
    yield from (f"nobody owns the units of {each.server}" for each in pairs.keys() - wanted.keys())
    yield from (f"{each.server} has no units" for each in wanted.keys() - pairs.keys())
    for replica in wanted.keys() & pairs.keys():
        pair = pairs[replica]
        at_rest = ("active",) if wanted[replica] else ("inactive", "failed")
        if pair.socket != "active" or pair.service not in at_rest:
            yield f"{replica.server} is at rest with {pair.socket} and {pair.service}"
    files = {path.name for path in (life.world.folder / "starts").glob("*")}
    if files != {replica.service for replica in pairs}:
        yield f"start documents {files} of pairs {set(pairs)}"
    for app in life.running.store.apps():
        pending = [each.number for each in app.revisions if each.status == "pending"]
        if pending and not life.disk_was_full:  # it says so itself then: until flyted starts again
            yield f"revisions {pending} of {app.key} are pending"


def _wrong_states(life: Life) -> Iterator[str]:
    facts = life.loop.run_until_complete(life.running.loop.facts())
    for app in facts.apps:
        state, why = state_of(app, facts)
        if app.wanted == "started" and app.serving is not None and state not in (AppState.RUNNING, AppState.SLEEPING):
            yield f"{app.key.id} has answered a request, and is shown as {state}: {why}"


def _wrong_ingress(life: Life) -> Iterator[str]:
    pools = {app.key.id: pool_name(app.pool or 0) for app in life.running.store.apps() if app.pooled}
    hosts = {host_of(each.app_id, DOMAIN): pools.get(each.app_id, each.server) for each in _wanted(life)}
    servers = {each.server: pools.get(each.app_id, "") for each in _wanted(life)}
    state = life.haproxy.state
    found = {each.name: each.pool for each in state.servers.values() if not each.rests}
    if dict(state.hosts) != hosts or found != servers or len(state.servers) != len(found):
        yield f"HAProxy has {dict(state.hosts)}, servers {set(state.servers)}; wanted are {hosts}"
    rest = {host_of(app.key.id, DOMAIN) for app in life.running.store.apps()} - hosts.keys()
    if set(state.unavailable) != rest:
        yield f"HAProxy says why {set(state.unavailable)} are unavailable; they are {rest}"


def _lost_images(life: Life) -> Iterator[str]:
    for app in life.running.store.apps():
        if app.current is not None and not life.running.images.present(app.current.image):
            yield f"the image of revision {app.serving} of {app.key} is gone"


def _wrong_leases(life: Life) -> Iterator[str]:
    held = {pair.replica.service for pair in life.world.pairs.values() if pair.devices}
    leases = {lease.unit for lease in life.running.table.leases}
    if leases != held:
        yield f"leases of {leases}, and GPUs are used by {held}"
