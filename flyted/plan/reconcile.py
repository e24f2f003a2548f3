"""Compares the wanted apps with what runs: what to do now, what the ingress shall serve, when to look again. Pure.

The order matters, and the caller must keep it: starts that wait for GPUs get their answers and units are killed, then
pairs start, then the ingress changes, then the rest is done. A replica is stopped only in a pass after the one that
took it out of the ingress (it is then in ``facts.leaving``), and only when its last request has ended or the drain
time is over. So neither a deploy nor a stop drops a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from flyted.contract.names import Replica, host_of
from flyted.plan import calls, scaling
from flyted.plan.actions import Action, Evict, IngressAction, KillUnit, ListenIngress, RestartIngress
from flyted.plan.cold import STARTS, first_step, plan_visits
from flyted.plan.draft import Draft, away, cannot_serve, server_timeout_ms
from flyted.plan.facts import Facts, Revision, StoredApp
from flyted.plan.gpus.queue import GpuPlan, plan_gpus
from flyted.plan.groups import Group, Groups
from flyted.plan.idle import Clock
from flyted.plan.ingress.clients import limits_value
from flyted.plan.ingress.config import structure
from flyted.plan.ingress.names import others
from flyted.plan.ingress.paths import keys
from flyted.plan.ingress.pools import pool_name
from flyted.plan.ingress.ports import listeners
from flyted.plan.ingress.sites import apis, authorities, domains, redirects
from flyted.plan.ingress.state import IngressState, Unavailable, unavailable
from flyted.plan.leaving import beyond, plan_leaving
from flyted.plan.overdue import ending
from flyted.plan.pairs import is_awake, keeps, listens, plan_service, rests, server_of
from flyted.plan.replicas import plan_replicas
from flyted.plan.scaling import Scale
from flyted.plan.upkeep import plan_upkeep


@dataclass(frozen=True)
class Plan:
    """The plan of one pass. ``next_pass_at``: the next moment at which time alone changes it; ``None``: never.

    ``due``: the next such moment of the machine's clock, in seconds since 1970. ``gpu``: the answers for starts that
    wait for GPUs, and which leases are over. ``leaving`` (replica → since when), ``clocks``, ``scales`` and
    ``ending``: what the next pass has to know of this one.
    """

    actions: tuple[Action, ...]
    ingress: IngressState
    leaving: Mapping[Replica, float]
    clocks: Mapping[str, Clock]
    scales: Mapping[str, Scale]
    ending: Mapping[str, float]
    gpu: GpuPlan
    next_pass_at: float | None
    due: float | None


def reconcile(
    facts: Facts, clocks: Mapping[str, Clock], base_domain: str, now: float, groups: Sequence[Group] = ()
) -> Plan:
    """Return the plan for all apps. ``now`` and all times are seconds of one monotonic clock.

    ``clocks``: the ``clocks`` of the previous plan, by server. ``groups``: the apps of the facts in groups, which keep
    what follows from them.
    """
    groups = groups or Groups().of(facts.apps)
    draft = Draft()
    sleeping = facts.index.sleeping - {replica.service for replica in facts.busy | facts.outdated}
    more = beyond(groups, facts)
    awake = {replica.app_id for replica in more} | {app_id for app_id, scale in facts.scales.items() if scale.extra}
    for group in groups:
        _plan_group(group, sleeping, awake, facts, clocks, base_domain, now, draft)
    gpu = _plan_gpus(facts, base_domain, now, draft)
    plan_leaving(more, groups, facts, now, draft)
    calls.of_others(facts, more | draft.extra, base_domain, draft)
    stopping = ending(facts.index.others, facts.ending, now)
    kill = (*gpu.kill, *(KillUnit(unit, "does not stop") for unit in stopping.kill))
    wake_times = (*draft.wake_times, gpu.next_pass_at, stopping.next_pass_at)
    upkeep = plan_upkeep(facts.upkeep)
    ingress = IngressState(
        servers=draft.servers, hosts=draft.hosts, timeouts_ms=draft.timeouts_ms, unavailable=draft.unavailable,
        domains=domains(facts.sites, base_domain), names={**draft.names, **apis(facts.sites)},
        challenges=facts.challenges, authorities=authorities(facts.sites), redirects=redirects(facts.sites),
        limits=draft.limits, guarded=draft.guarded, restricted=draft.restricted, open_paths=draft.open_paths,
        sticky=draft.sticky,
        callers=draft.callers, calls=draft.calls, watched=draft.watched, awake=draft.awake,
        cold=draft.cold, steps=draft.steps,
    )  # fmt: skip
    return Plan(
        actions=(*kill, *draft.actions, *_plan_ingress(facts), *upkeep.actions),
        ingress=ingress,
        leaving=draft.leaving,
        clocks=draft.clocks,
        scales=draft.scales,
        ending=stopping.since,
        gpu=gpu,
        next_pass_at=min((at for at in wake_times if at is not None), default=None),
        due=upkeep.due,
    )


def _plan_ingress(facts: Facts) -> tuple[IngressAction, ...]:
    """Plan what changes the ingress's units: HAProxy reads its rules, and gets its listeners, only when it starts."""
    if facts.listening not in (None, listeners(facts.listen)):
        return (ListenIngress(),)
    if facts.ingress == "active" and facts.rules not in (None, structure(facts.listen)):
        return (RestartIngress(),)
    return ()


def _plan_group(
    group: Group, sleeping: AbstractSet[str], awake: AbstractSet[str], facts: Facts, clocks: Mapping[str, Clock],
    base_domain: str, now: float, draft: Draft,
) -> None:  # fmt: skip
    def planned(into: Draft) -> Draft:
        for app in group.apps:
            _plan_app(app, facts, clocks, base_domain, now, into)
        return into

    if group.rests(sleeping, awake, facts.candidates):
        numbers = tuple(map(facts.numbers.get, group.callers))
        key = (base_domain, facts.sites, facts.start_s, facts.gpu_wait_s, numbers)
        draft.add(group.share(key, lambda: planned(Draft())))
    else:
        planned(draft)


def _plan_app(
    app: StoredApp, facts: Facts, clocks: Mapping[str, Clock], base_domain: str, now: float, draft: Draft
) -> None:
    host = host_of(app.key.id, base_domain)
    revision = app.current
    if revision is not None and revision.spec.requires_auth:
        draft.guarded[host] = app.key.id  # also while it is stopped or has failed: strangers learn no reason
    if revision is not None and (limits := limits_value(revision.spec.requests_per_s, h2c=revision.spec.h2c)):
        draft.limits[host] = limits
    if revision is not None and revision.open_paths is not None:
        draft.restricted[host] = app.key.id
        draft.open_paths |= keys(host, revision.open_paths)
    if revision is not None:
        draft.names |= dict.fromkeys(others(revision.spec, base_domain, facts.sites), host) | calls.alias(
            app.key, host
        )
    calls.of_app(app, app.serving_replicas, facts.numbers, base_domain, draft)
    if not app.serving_replicas or revision is None:
        draft.unavailable[host] = _not_serving(app, facts)
        if step := first_step(app, facts):
            draft.steps[host] = step
    elif app.pooled:
        plan_replicas(app, revision, host, facts, clocks, now, draft)
    else:
        _plan_replica(app, revision, host, facts, clocks, now, draft)


def _plan_replica(
    app: StoredApp, revision: Revision, host: str, facts: Facts, clocks: Mapping[str, Clock], now: float, draft: Draft
) -> None:
    """Plan the replica of an app that has one, and its part of the ingress."""
    spec, (replica, *_) = revision.spec, app.serving_replicas
    if not listens(replica, facts, now, draft):
        draft.unavailable[host] = away(app, (replica,), facts, now)
        if replica not in facts.failures:
            draft.steps[host] = STARTS
        return
    draft.hosts[host] = replica.server
    plan_service(replica, spec, facts, clocks, now, draft, runs=spec.min_replicas > 0)
    draft.servers[replica.server] = server_of(replica, h2=spec.h2c, kept=keeps(replica, facts, draft))
    if is_awake(replica, facts, draft):
        draft.awake[replica.server] = "yes"
    plan_visits(host, replica.server, (replica,), replica, revision, facts, draft)
    waits = replica in facts.busy or rests(facts.units.get(replica.service)) or replica in draft.resting
    if waits or spec.request_timeout_s:
        draft.timeouts_ms[replica.server] = server_timeout_ms(spec, facts, waits=waits)


def _plan_gpus(facts: Facts, base_domain: str, now: float, draft: Draft) -> GpuPlan:
    """Plan the leases of GPUs: idle apps sleep for waiting starts; a unit that got none, or lost it, is stopped."""
    plan = plan_gpus(facts, draft.idle, now, draft.resting)
    evict = {replica: unit for replica, unit in plan.evict.items() if replica not in draft.resting}
    _give_up(draft, evict.keys() & draft.extra, now)
    evict = {replica: unit for replica, unit in evict.items() if replica not in draft.extra}
    for name in {replica.server for replica in evict} & draft.servers.keys():
        draft.servers[name] = replace(draft.servers[name], kept=False)
    draft.actions += (Evict(replica, unit, facts.traffic[replica.server]) for replica, unit in evict.items())
    for app in facts.apps if evict else ():
        for replica in evict.keys() & app.serving_replicas:
            if app.current is not None:  # who comes now waits until it has started again
                name = pool_name(app.pool or 0) if app.pooled else replica.server
                draft.timeouts_ms[name] = server_timeout_ms(app.current.spec, facts, waits=True)
                draft.awake.pop(name, None)
    failed = frozenset(action.replica for action in plan.failed)
    for app in facts.apps if failed else ():
        members = draft.members.get(app.key.id, frozenset(app.serving_replicas))
        if members & failed and members <= failed:  # their pairs go, or are not made: nothing will listen
            host = host_of(app.key.id, base_domain)
            draft.unavailable[host] = unavailable(cannot_serve(app), 1)
            draft.steps.pop(host, None)
    for replica in failed:
        if (server := draft.servers.get(replica.server)) is not None and server.pool:
            draft.servers[server.name] = replace(server, rests=True)
    draft.actions = [action for action in draft.actions if action.replica not in failed]
    draft.actions += plan.failed
    return replace(plan, look=True) if draft.looks_for_gpus else plan


def _give_up(draft: Draft, replicas: AbstractSet[Replica], now: float) -> None:
    """Take away idle replicas whose GPU another start waits for. They drain, and stop in one of the next passes."""
    for replica in replicas:
        scale = draft.scales[replica.app_id]
        draft.scales[replica.app_id] = scaling.dropped(scale, [replica.number])
        draft.wake_times.append(now)


def _not_serving(app: StoredApp, facts: Facts) -> Unavailable:
    """Return the message to visitors of an app without a serving replica."""
    if app.wanted == "stopped":
        return unavailable(f'"{app.key}" is stopped; its operator can start it: flytectl app start {app.key.name}', 60)
    if any(replica.app_id == app.key.id for replica in facts.candidates):
        return unavailable(f'"{app.key}" is starting for the first time', 5)
    return unavailable(cannot_serve(app), 60)
