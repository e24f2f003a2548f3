"""Decides about all starts that wait for GPUs, in their order, and finds the leases that have ended. Pure.

No start overtakes an earlier one on a device that the earlier one may get. Room is made of idle apps only, and only of
those without which the start would have to wait.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from flyted.contract.names import Replica, replica_of
from flyted.plan.actions import FailPair, KillUnit
from flyted.plan.facts import Facts
from flyted.plan.gpus import lease as gpu_lease
from flyted.plan.gpus.driver import unusable
from flyted.plan.gpus.facts import Asking, Device, DriverFiles, GpuFacts, Inventory, Learned, Lease
from flyted.plan.gpus.match import grantable
from flyted.plan.gpus.place import Granted, Never, Occupancy, Wait, Wanted, place
from flyted.plan.unit_index import AT_REST

LOOK_S = 1.0
"""Seconds between looks while a start waits: no event reports that a busy app is idle or memory was released late.

An inventory counts for as long.
"""


@dataclass(frozen=True)
class Grant:
    """A start gets these devices, and with them the lease (whose time is not set yet).

    ``driver``: the driver's files as they are now, for an app in the root of its image; ``None`` for others.
    """

    lease: Lease
    devices: tuple[Device, ...]
    nodes: tuple[tuple[str, str], ...]
    driver: DriverFiles | None = None


@dataclass(frozen=True)
class GpuPlan:
    """The part of a pass's plan that is about GPUs.

    ``grants``, ``refusals`` (unit → why) and ``cancelled`` answer starts that wait; ``waits`` (unit → why) are left.
    ``evict``: an idle replica → the unit that gets its GPU. ``over``: the leases whose units have ended. ``ready``:
    the units that came up with their leases. ``failed`` and ``kill``: what becomes of units that got no GPU or lost
    theirs; ``settled``: those units that need nothing more. ``look``: whether the GPUs have to be looked at.
    ``next_pass_at``: when time alone may change the plan.
    """

    grants: tuple[Grant, ...] = ()
    refusals: Mapping[str, str] = field(default_factory=dict)
    cancelled: tuple[str, ...] = ()
    waits: Mapping[str, str] = field(default_factory=dict)
    evict: Mapping[Replica, str] = field(default_factory=dict)
    over: tuple[Lease, ...] = ()
    ready: tuple[str, ...] = ()
    failed: tuple[FailPair, ...] = ()
    kill: tuple[KillUnit, ...] = ()
    settled: frozenset[str] = frozenset()
    look: bool = False
    next_pass_at: float | None = None


@dataclass
class _Line:
    """The starts that have been decided so far. ``claimed``: devices that an earlier start may get soon.

    ``rooted``: the units whose apps have the root of their image. ``ending``: those that end soon.
    """

    grants: list[Grant] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    waits: dict[str, str] = field(default_factory=dict)
    evict: dict[Replica, str] = field(default_factory=dict)
    claimed: frozenset[str] = frozenset()
    rooted: frozenset[str] = frozenset()
    ending: frozenset[str] = frozenset()


def plan_gpus(facts: Facts, idle: Mapping[Replica, float], now: float, resting: Collection[Replica] = ()) -> GpuPlan:
    """Return what is to be done about GPUs. ``idle``: the replicas that may be put to sleep, and for how long idle.

    ``resting``: those that this pass puts to sleep anyway.
    """
    gpu = facts.gpu
    if not (gpu.leases or gpu.asking or gpu.refused or gpu.lost):
        return GpuPlan()
    active = {name: fact.active for name, fact in facts.units.items()}
    over = tuple(gpu_lease.ended(gpu.leases, active))
    leases = tuple(lease.over(0.0) if lease in over else lease for lease in gpu.leases)
    asking = [each for each in gpu.asking if active.get(each.unit) == "activating"]
    rooted = frozenset(each.unit for each in asking if _in_root(each.replica, facts))
    stay = {replica: seconds for replica, seconds in idle.items() if replica not in resting}
    ending = _ending(facts, resting)
    line = _decided(asking, replace(gpu, leases=leases), stay, rooted, ending)
    failed, settled = _failed(facts, active)
    return GpuPlan(
        grants=tuple(line.grants),
        refusals=line.refusals,
        cancelled=tuple(each.unit for each in gpu.asking if each not in asking),
        waits=line.waits,
        evict=line.evict,
        over=over,
        ready=tuple(unit for unit in sorted(gpu.loading) if active.get(unit) == "active"),
        failed=failed,
        kill=tuple(KillUnit(unit, f"has lost its GPU: {why}") for unit, why in gpu.lost.items()),
        settled=settled,
        look=bool(asking) and gpu.inventory is None and not gpu.error,
        next_pass_at=now + LOOK_S if line.waits else None,
    )


def _in_root(replica: Replica, facts: Facts) -> bool:
    revisions = (app.revision(replica.revision) for app in facts.apps if app.key.id == replica.app_id)
    return any(revision is not None and revision.image.root is not None for revision in revisions)


def _decided(
    asking: list[Asking], gpu: GpuFacts, idle: Mapping[Replica, float], rooted: frozenset[str],
    ending: frozenset[str],
) -> _Line:  # fmt: skip
    line = _Line(rooted=rooted, ending=ending)
    for each in asking:
        if gpu.inventory is not None:
            taken = (*gpu.leases, *(grant.lease for grant in line.grants))
            _decide(each, gpu.inventory, replace(gpu, leases=taken), idle, line)
        elif gpu.error:
            line.waits[each.unit] = gpu.error
    return line


def _decide(asking: Asking, inventory: Inventory, gpu: GpuFacts, idle: Mapping[Replica, float], line: _Line) -> None:
    replica, driver = asking.replica, inventory.files if asking.unit in line.rooted else None
    if driver is not None and not inventory.reason and (why := unusable(driver)):
        line.refusals[asking.unit] = why
        return
    known = gpu.learned.get(replica.app_id)
    wanted = Wanted(asking.unit, asking.ask, known.peak_bytes if known else 0)
    decision = place(wanted, inventory, Occupancy(gpu.leases, _evictable(replica, gpu, idle), line.ending))
    if isinstance(decision, Granted) and line.claimed & {device.uuid for device in decision.devices}:
        suitable = frozenset(device.uuid for device in grantable(asking.ask, inventory))
        decision = Wait(f"needs {asking.ask}; others already wait for the same GPUs", claims=suitable)
    match decision:
        case Granted(devices, reserve):
            lease = gpu_lease.lease_of(asking.unit, replica.app_id, replica.revision, devices, reserve, 0.0)
            line.grants.append(Grant(lease, devices, tuple(gpu_lease.nodes(devices, inventory)), driver))
        case Never(why):
            line.refusals[asking.unit] = why
        case Wait(why, evict, claims):
            line.waits[asking.unit] = why
            units = () if line.claimed & claims else evict
            line.evict |= {each: asking.unit for each in idle if each.service in units and each not in line.evict}
            line.claimed |= claims


def _ending(facts: Facts, resting: Collection[Replica]) -> frozenset[str]:
    """Return the units that hold a lease and are about to end: they are put to sleep, stop, or have no requests left.

    An ended one counts while the return of its memory is waited for; if that takes too long, it does not.
    """
    return frozenset(lease.unit for lease in facts.gpu.leases if _ends(lease, facts, resting))


def _ends(lease: Lease, facts: Facts, resting: Collection[Replica]) -> bool:
    if lease.ended_at is not None:
        return lease.unit in facts.gpu.returning
    replica, service = replica_of(lease.unit), facts.units.get(lease.unit)
    if replica is None or service is None or service.active in AT_REST:
        return True  # it is over as of this pass
    if service.active == "activating":
        return False
    traffic = facts.traffic.get(replica.server)
    drained = replica in facts.leaving and facts.counted and (traffic is None or not traffic.busy)
    return service.active == "deactivating" or replica in facts.busy or replica in resting or drained


def _evictable(wanted_by: Replica, gpu: GpuFacts, idle: Mapping[Replica, float]) -> dict[str, float]:
    """Return how good it is to put each idle holder to sleep, by unit; see :func:`flyted.plan.gpus.lease.worth`.

    An app's own earlier revision may go as soon as it is idle; another replica of the same one stays.
    """
    found = {}
    for replica, seconds in idle.items():
        if (replica.app_id, replica.revision) == (wanted_by.app_id, wanted_by.revision):
            continue
        least = 0.0 if replica.app_id == wanted_by.app_id else gpu_lease.MIN_IDLE_S
        value = gpu_lease.worth(seconds, gpu.learned.get(replica.app_id, Learned()), least)
        if value is not None:
            found[replica.service] = value
    return found


def _failed(facts: Facts, active: Mapping[str, str]) -> tuple[tuple[FailPair, ...], frozenset[str]]:
    """Return the pairs that got no GPU, once that start has ended, or lost it; and which units are settled.

    A pair on which other work runs has to wait for the end of that. A candidate is left alone: its deploy tells its
    own client, and clears up.
    """
    failed, settled = [], set()
    for unit, reason in _reasons(facts.gpu, active):
        replica = replica_of(unit)
        if replica is not None and replica in facts.busy:
            continue
        settled.add(unit)
        if replica is not None and replica not in facts.candidates and _known(replica, facts):
            failed.append(FailPair(replica, reason))
    return tuple(failed), frozenset(settled)


def _reasons(gpu: GpuFacts, active: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for unit, why in gpu.lost.items():
        yield unit, f"its GPU is lost: {why}"
    for unit, why in gpu.refused.items():
        if unit not in gpu.lost and active.get(unit) not in ("activating", "deactivating"):
            yield unit, f"no GPU: {why}"


def _known(replica: Replica, facts: Facts) -> bool:
    return any(app.key.id == replica.app_id and app.revision(replica.revision) for app in facts.apps)
