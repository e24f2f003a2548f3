"""Compares the wanted apps with what runs: what to do now, what the ingress shall serve, when to look again. Pure.

The order matters, and the caller must keep it: starts that wait for GPUs get their answers and units are killed, then
pairs start, then the ingress changes, then the rest is done. A replica is stopped only in a pass after the one that
took it out of the ingress (it is then in ``facts.leaving``), and only when its last request has ended or the drain
time is over. So neither a deploy nor a stop drops a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache

from flyted.contract.app import AppSpec
from flyted.contract.names import Replica, host_of, replica_of
from flyted.plan.actions import (
    Action,
    Evict,
    IngressAction,
    KillUnit,
    ListenIngress,
    PairAction,
    RenewPair,
    RestartIngress,
    StartPair,
    StartService,
    StopPair,
)
from flyted.plan.engines.sleep import SLEEP_AND_WAKE_S, asleep, idle_step
from flyted.plan.facts import Facts, Revision, StoredApp
from flyted.plan.gpus.queue import GpuPlan, plan_gpus
from flyted.plan.groups import Group, Groups, Share
from flyted.plan.idle import Busy, Clock, Idle, decide, look, start
from flyted.plan.ingress.clients import limits_value
from flyted.plan.ingress.config import structure
from flyted.plan.ingress.names import others
from flyted.plan.ingress.paths import keys
from flyted.plan.ingress.ports import listeners
from flyted.plan.ingress.sites import apis, authorities, domains, redirects
from flyted.plan.ingress.state import DEFAULT_TIMEOUT_MS, IngressState, Server, Unavailable, unavailable
from flyted.plan.overdue import ending
from flyted.plan.unit_index import UnitFact
from flyted.plan.units import STOP_S, socket_path
from flyted.plan.upkeep import plan_upkeep

RENEWALS = 4
"""The most pairs that are renewed at a time: with hundreds at once, each would be away for as long as all take."""
DRAIN_S = 60.0
DRAIN_LOOK_S = 0.5
SERVER_MAXCONN = 3500  # below the sockets' backlog of 4096: with a full backlog a request gets 503 at once (measured)
_ALIVE = ("active", "activating", "reloading", "deactivating")


@dataclass(frozen=True)
class Plan:
    """The plan of one pass. ``next_pass_at``: the next moment at which time alone changes it; ``None``: never.

    ``due``: the next such moment of the machine's clock, in seconds since 1970. ``gpu``: the answers for starts that
    wait for GPUs, and which leases are over. ``clocks`` and ``ending``: what the next pass has to know of this one.
    """

    actions: tuple[Action, ...]
    ingress: IngressState
    leaving: frozenset[Replica]
    clocks: Mapping[str, Clock]
    ending: Mapping[str, float]
    gpu: GpuPlan
    next_pass_at: float | None
    due: float | None


@dataclass
class _Draft(Share):
    actions: list[PairAction] = field(default_factory=list)
    leaving: set[Replica] = field(default_factory=set)
    resting: set[Replica] = field(default_factory=set)  # put to sleep or renewed in this pass, after the ingress
    idle: dict[Replica, float] = field(default_factory=dict)  # replicas that may sleep → seconds without a request
    clocks: dict[str, Clock] = field(default_factory=dict)
    wake_times: list[float] = field(default_factory=list)


def reconcile(
    facts: Facts, clocks: Mapping[str, Clock], base_domain: str, now: float, groups: Sequence[Group] = ()
) -> Plan:
    """Return the plan for all apps. ``now`` and all times are seconds of one monotonic clock.

    ``clocks``: the ``clocks`` of the previous plan, by server. ``groups``: the apps of the facts in groups, which keep
    what follows from them.
    """
    groups = groups or Groups().of(facts.apps)
    draft = _Draft()
    sleeping = facts.index.sleeping - {replica.service for replica in facts.busy | facts.outdated}
    for group in groups:
        _plan_group(group, sleeping, facts, clocks, base_domain, now, draft)
    gpu = _plan_gpus(facts, base_domain, now, draft)
    _plan_leaving(groups, facts, now, draft)
    stopping = ending(facts.index.others, facts.ending, now)
    kill = (*gpu.kill, *(KillUnit(unit, "does not stop") for unit in stopping.kill))
    wake_times = (*draft.wake_times, gpu.next_pass_at, stopping.next_pass_at)
    upkeep = plan_upkeep(facts.upkeep)
    ingress = IngressState(
        servers=draft.servers, hosts=draft.hosts, timeouts_ms=draft.timeouts_ms, unavailable=draft.unavailable,
        domains=domains(facts.sites, base_domain), names={**draft.names, **apis(facts.sites)},
        challenges=facts.challenges, authorities=authorities(facts.sites), redirects=redirects(facts.sites),
        limits=draft.limits, guarded=draft.guarded, restricted=draft.restricted, open_paths=draft.open_paths,
    )  # fmt: skip
    return Plan(
        actions=(*kill, *draft.actions, *_plan_ingress(facts), *upkeep.actions),
        ingress=ingress,
        leaving=frozenset(draft.leaving),
        clocks=draft.clocks,
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
    group: Group, sleeping: AbstractSet[str], facts: Facts, clocks: Mapping[str, Clock], base_domain: str, now: float,
    draft: _Draft,
) -> None:  # fmt: skip
    def planned(into: _Draft) -> _Draft:
        for app in group.apps:
            _plan_app(app, facts, clocks, base_domain, now, into)
        return into

    if group.rests(sleeping, facts.candidates):
        key = (base_domain, facts.sites, facts.start_s, facts.gpu_wait_s)
        draft.add(group.share(key, lambda: planned(_Draft())))
    else:
        planned(draft)


def _plan_app(
    app: StoredApp, facts: Facts, clocks: Mapping[str, Clock], base_domain: str, now: float, draft: _Draft
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
        draft.names |= dict.fromkeys(others(revision.spec, base_domain, facts.sites), host)
    if not app.serving_replicas or revision is None:
        draft.unavailable[host] = _not_serving(app, facts)
        return
    for replica in app.serving_replicas:
        _plan_replica(app, revision, replica, host, facts, clocks, now, draft)


def _plan_replica(
    app: StoredApp, revision: Revision, replica: Replica, host: str, facts: Facts, clocks: Mapping[str, Clock],
    now: float, draft: _Draft,
) -> None:  # fmt: skip
    failure = facts.failures.get(replica)
    if not _alive(facts.units.get(replica.socket)):
        busy = replica in facts.busy
        # nothing listens while the rest of a failed pair is being stopped; the end of that asks for a pass
        if failure is not None and (now < failure.retry_at or busy):
            draft.unavailable[host] = unavailable(_cannot_serve(app), max(1, int(failure.retry_at - now)))
            if now < failure.retry_at:
                draft.wake_times.append(failure.retry_at)
            return
        # HAProxy repeats a refused connection for long enough for a renewal; a stop may take as long as a drain
        if busy and replica not in facts.outdated:
            draft.unavailable[host] = unavailable(f'"{app.key}" is starting', 1)
            return
        if not busy:
            draft.actions.append(StartPair(replica))
    draft.servers[replica.server] = server_of(replica, h2=revision.spec.h2c)
    draft.hosts[host] = replica.server
    if replica not in facts.busy and not _pauses(replica, facts, now, draft):
        _plan_service(replica, revision.spec, facts, clocks, now, draft)
    waits = replica in facts.busy or _rests(facts.units.get(replica.service)) or replica in draft.resting
    if waits or revision.spec.request_timeout_s:
        draft.timeouts_ms[replica.server] = server_timeout_ms(revision.spec, facts, waits=waits)


def _plan_gpus(facts: Facts, base_domain: str, now: float, draft: _Draft) -> GpuPlan:
    """Plan the leases of GPUs: idle apps sleep for waiting starts; a unit that got none, or lost it, is stopped."""
    plan = plan_gpus(facts, draft.idle, now)
    evict = {replica: unit for replica, unit in plan.evict.items() if replica not in draft.resting}
    draft.actions += (Evict(replica, unit, facts.traffic[replica.server]) for replica, unit in evict.items())
    for app in facts.apps if evict else ():
        for replica in evict.keys() & app.serving_replicas:
            if app.current is not None:  # who comes now waits until it has started again
                draft.timeouts_ms[replica.server] = server_timeout_ms(app.current.spec, facts, waits=True)
    failed = {action.replica for action in plan.failed}
    for app in facts.apps if failed else ():
        if failed & set(app.serving_replicas):  # its pair goes, or is not made: nothing will listen
            draft.unavailable[host_of(app.key.id, base_domain)] = unavailable(_cannot_serve(app), 1)
    draft.actions = [action for action in draft.actions if action.replica not in failed]
    draft.actions += plan.failed
    return plan


def _cannot_serve(app: StoredApp) -> str:
    """Return the message to visitors of an app that failed.

    The reason is not in it: it is a line of the app's log, and so only for its operators.
    """
    return f'"{app.key}" cannot serve now; its operator can see why: flytectl app get {app.key.name}'


def _not_serving(app: StoredApp, facts: Facts) -> Unavailable:
    """Return the message to visitors of an app without a serving replica."""
    if app.wanted == "stopped":
        return unavailable(f'"{app.key}" is stopped; its operator can start it: flytectl app start {app.key.name}', 60)
    if any(replica.app_id == app.key.id for replica in facts.candidates):
        return unavailable(f'"{app.key}" is starting for the first time', 5)
    return unavailable(_cannot_serve(app), 60)


def server_timeout_ms(spec: AppSpec, facts: Facts, *, waits: bool) -> int:
    """Return the ingress's server timeout in milliseconds.

    With ``waits`` it also covers all that happens before the app can answer: the end of the previous run, the wait for
    a GPU, and the start of the app, perhaps after a wake of its engine that failed.
    """
    answer = spec.request_timeout_s or DEFAULT_TIMEOUT_MS / 1000
    before = STOP_S + (spec.start_timeout_s or facts.start_s) + (facts.gpu_wait_s if spec.gpu_count else 0)
    before += SLEEP_AND_WAKE_S if spec.engine_sleep else 0
    return int((answer + (before if waits else 0)) * 1000)


def _rests(service: UnitFact | None) -> bool:
    return service is None or service.active != "active" or asleep(service)


def _plan_service(
    replica: Replica, spec: AppSpec, facts: Facts, clocks: Mapping[str, Clock], now: float, draft: _Draft
) -> None:
    service = facts.units.get(replica.service)
    if _is_to_renew(replica, facts, draft):
        draft.actions.append(RenewPair(replica))
        draft.resting.add(replica)
        return
    if spec.min_replicas > 0:
        if not _alive(service):
            draft.actions.append(StartService(replica))
        return
    if service is None or service.active != "active":
        return  # nothing runs, so there is no clock and no next look
    clock = clocks.get(replica.server) or start(now)
    traffic = facts.traffic.get(replica.server)
    if traffic is None:  # HAProxy is down or does not have this server yet: whether the app is idle is not known
        draft.clocks[replica.server] = start(now)
        draft.wake_times.append(now + spec.scaledown_after_s)
        return
    clock = look(clock, traffic, now)
    if not clock.busy:
        draft.idle[replica] = now - clock.since
    if asleep(service):
        draft.clocks[replica.server] = clock  # for apps that wait for its GPU; no look: its unit reports when it wakes
        return
    match decide(clock, spec.scaledown_after_s, now):
        case Idle():
            draft.actions.append(idle_step(spec, replica, traffic))
            draft.resting.add(replica)
        case Busy(next_look):
            draft.clocks[replica.server] = clock
            draft.wake_times.append(next_look)


def _pauses(replica: Replica, facts: Facts, now: float, draft: _Draft) -> bool:
    """Report whether the start or renewal of a pair, whose socket listens, has just failed."""
    failure = facts.failures.get(replica)
    if failure is None or now >= failure.retry_at or _alive(facts.units.get(replica.service)):
        return False
    draft.wake_times.append(failure.retry_at)
    return True


def _is_to_renew(replica: Replica, facts: Facts, draft: _Draft) -> bool:
    """Report whether to renew a pair now: it is outdated and asleep, and fewer than :data:`RENEWALS` are under way.

    A running service is unchanged until it sleeps. The end of each renewal causes the next pass.
    """
    if replica not in facts.outdated or _alive(facts.units.get(replica.service)):
        return False
    under_way = len(facts.outdated & facts.busy) + sum(isinstance(action, RenewPair) for action in draft.actions)
    return under_way < RENEWALS and _alive(facts.units.get(replica.socket))


def _plan_leaving(groups: Sequence[Group], facts: Facts, now: float, draft: _Draft) -> None:
    """Plan the replicas that run and are not wanted any more: they are drained first, then stopped."""
    wanted = frozenset().union(*(group.names for group in groups))
    asleep = {replica for name in facts.index.sleeping - wanted if (replica := replica_of(name)) is not None}
    others = (fact for name, fact in facts.index.others.items() if name not in wanted)
    for replica in sorted((asleep | set(_running(others))) - facts.candidates):
        since = facts.leaving.get(replica)
        traffic = facts.traffic.get(replica.server)
        told = replica not in facts.untold
        drained = told and facts.counted and (traffic is None or not traffic.busy)
        draft.leaving.add(replica)
        if replica in facts.busy:
            continue
        if since is not None and (drained or now - since >= DRAIN_S):
            draft.actions.append(StopPair(replica))
            continue
        draft.wake_times.append(now + (0.0 if since is None else DRAIN_LOOK_S))
        if replica.server in facts.traffic:
            draft.servers[replica.server] = server_of(replica)


def _running(units: Iterable[UnitFact]) -> Iterator[Replica]:
    for fact in units:
        replica = replica_of(fact.name)
        there = fact.active != "inactive" or fact.name.endswith(".socket")
        if replica is not None and fact.load != "not-found" and there:
            yield replica


def _alive(fact: UnitFact | None) -> bool:
    return fact is not None and fact.active in _ALIVE


@lru_cache(maxsize=8192)
def server_of(replica: Replica, *, h2: bool = False) -> Server:
    """Return the replica's server in the ingress.

    ``h2``: whether it speaks HTTP/2. This matters only for requests still to come, so not for a leaving replica.
    """
    return Server(replica.server, socket_path(replica), SERVER_MAXCONN, h2)
