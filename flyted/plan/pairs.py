"""Plans one replica's pair of units: its start, its sleep, its renewal, and its server in the ingress. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

from flyted.contract.app import AppSpec
from flyted.contract.names import Replica
from flyted.launch.words import KEEPS
from flyted.plan.actions import Freeze, RenewPair, StartPair, StartService, Thaw
from flyted.plan.draft import Draft
from flyted.plan.engines.sleep import asleep, idle_step
from flyted.plan.facts import Facts
from flyted.plan.freeze import frozen
from flyted.plan.idle import Busy, Clock, Idle, decide, look, start
from flyted.plan.ingress.state import Server
from flyted.plan.unit_index import UnitFact
from flyted.plan.units import socket_path

RENEWALS = 4
"""The most pairs that are renewed at a time: with hundreds at once, each would be away for as long as all take."""
SERVER_MAXCONN = 3500  # below the sockets' backlog of 4096: with a full backlog a request gets 503 at once (measured)
_ALIVE = ("active", "activating", "reloading", "deactivating")


def alive(fact: UnitFact | None) -> bool:
    """Report whether a unit runs, starts or stops."""
    return fact is not None and fact.active in _ALIVE


def rests(service: UnitFact | None) -> bool:
    """Report whether a request to a service has to wait until it has started, or its engine has woken."""
    return service is None or service.active != "active" or asleep(service)


def listens(replica: Replica, facts: Facts, now: float, draft: Draft) -> bool:
    """Report whether the ingress may send requests to a replica: its socket listens, or does before the ingress acts.

    Plan its start if it has no socket.
    """
    if alive(facts.units.get(replica.socket)):
        return True
    failure, busy = facts.failures.get(replica), replica in facts.busy
    # nothing listens while the rest of a failed pair is being stopped; the end of that asks for a pass
    if failure is not None and (now < failure.retry_at or busy):
        if now < failure.retry_at:
            draft.wake_times.append(failure.retry_at)
        return False
    # HAProxy repeats a refused connection for long enough for a renewal; a stop may take as long as a drain
    if busy and replica not in facts.outdated:
        return False
    if not busy:
        draft.actions.append(StartPair(replica))
    return True


def plan_service(
    replica: Replica, spec: AppSpec, facts: Facts, clocks: Mapping[str, Clock], now: float, draft: Draft,
    *, runs: bool,
) -> None:  # fmt: skip
    """Plan the service of a replica whose socket listens, or will. ``runs``: it shall run, however long it is idle."""
    if replica in facts.busy or _pauses(replica, facts, now, draft):
        return
    service = facts.units.get(replica.service)
    if _is_to_renew(replica, facts, draft):
        draft.actions.append(RenewPair(replica))
        draft.resting.add(replica)
    elif runs and not alive(service):
        draft.actions.append(StartService(replica))
    elif service is not None and service.active == "active" and (not spec.min_replicas or replica in draft.extra):
        _plan_idle(replica, spec, service, facts, clocks, now, draft, runs=runs)


def _plan_idle(
    replica: Replica, spec: AppSpec, service: UnitFact, facts: Facts, clocks: Mapping[str, Clock], now: float,
    draft: Draft, *, runs: bool,
) -> None:  # fmt: skip
    clock = clocks.get(replica.server) or start(now)
    traffic = facts.traffic.get(replica.server)
    if traffic is None:  # HAProxy is down or does not have this server yet: whether the app is idle is not known
        draft.clocks[replica.server] = start(now)
        draft.wake_times.append(now + spec.scaledown_after_s)
        return
    clock = look(clock, traffic, now)
    if not clock.busy and (not runs or replica in draft.extra):
        draft.idle[replica] = now - clock.since
    if runs or asleep(service):
        draft.clocks[replica.server] = clock  # for apps that wait for its GPU; no look: its unit reports when it wakes
        return
    is_frozen = frozen(replica, facts.units)
    if is_frozen is None:  # it is about to be, or is being thawed or stopped: the end of that asks for a pass
        draft.clocks[replica.server] = clock
        return
    if is_frozen and traffic.busy:
        draft.actions.append(Thaw(replica))
        return
    match decide(clock, facts.freeze.frozen_s(spec) if is_frozen else spec.scaledown_after_s, now):
        case Idle():
            freezes = not is_frozen and facts.freeze.may_freeze(spec)
            draft.actions.append(Freeze(replica, traffic) if freezes else idle_step(spec, replica, traffic))
            draft.resting.add(replica)
        case Busy(next_look):
            draft.clocks[replica.server] = clock
            if math.isfinite(next_look):
                draft.wake_times.append(next_look)


def _pauses(replica: Replica, facts: Facts, now: float, draft: Draft) -> bool:
    """Report whether the start or renewal of a pair, whose socket listens, has just failed."""
    failure = facts.failures.get(replica)
    if failure is None or now >= failure.retry_at or alive(facts.units.get(replica.service)):
        return False
    draft.wake_times.append(failure.retry_at)
    return True


def _is_to_renew(replica: Replica, facts: Facts, draft: Draft) -> bool:
    """Report whether to renew a pair now: it is outdated and asleep, and fewer than :data:`RENEWALS` are under way.

    A running service is unchanged until it sleeps. The end of each renewal causes the next pass.
    """
    if replica not in facts.outdated or alive(facts.units.get(replica.service)):
        return False
    under_way = len(facts.outdated & facts.busy) + sum(isinstance(action, RenewPair) for action in draft.actions)
    return under_way < RENEWALS and alive(facts.units.get(replica.socket))


def says_it_keeps(status: str) -> bool:
    """Report whether the status of a service that runs says that its server closes no idle connection."""
    return KEEPS in status


def keeps(replica: Replica, facts: Facts, draft: Draft) -> bool:
    """Report whether the ingress may keep connections to a replica: its server never closes one, and it is awake."""
    return replica.service in facts.keeping and is_awake(replica, facts, draft)


def is_awake(replica: Replica, facts: Facts, draft: Draft) -> bool:
    """Report whether a replica answers requests at once: it runs, is not frozen, and nothing ends it.

    Call it when the replica's service is planned.
    """
    service = facts.units.get(replica.service)
    return (
        replica not in facts.busy
        and replica not in draft.resting
        and not rests(service)
        and frozen(replica, facts.units) is False
    )


@lru_cache(maxsize=8192)
def server_of(
    replica: Replica, *, h2: bool = False, pool: str = "", rests: bool = False, kept: bool = False
) -> Server:  # fmt: skip
    """Return the replica's server in the ingress.

    ``h2``: whether it speaks HTTP/2. This matters only for requests still to come, so not for a leaving replica.
    ``pool``: the pool that it is in, where it ``rests`` if it gets no new requests. ``kept``: whether connections to
    it are kept.
    """
    return Server(replica.server, socket_path(replica), SERVER_MAXCONN, h2, pool, rests, kept)
