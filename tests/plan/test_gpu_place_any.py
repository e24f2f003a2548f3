"""What holds for every decision about GPUs, whoever holds them: hypothesis tries."""

from __future__ import annotations

from itertools import chain, combinations

from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.gpu import Ask
from flyted.plan.gpus.facts import Inventory, Lease
from flyted.plan.gpus.place import Granted, Occupancy, Wait, Wanted, place, spare
from tests.plan.gpus import GIB, NEW, gpu, lease, machine, process, unit, wanted


@st.composite
def situations(draw: st.DrawFn) -> tuple[Inventory, Occupancy]:
    """Three GPUs with leases, what their holders use, and programs that are not apps."""
    leases: list[Lease] = []
    idle: dict[str, float] = {}
    used: dict[str, list[tuple[str, int]]] = {uuid: [] for uuid in "abc"}
    for n in range(draw(st.integers(0, 5))):
        devices = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True))
        reserve = draw(st.integers(0, 45)) if len(devices) == 1 else 0
        leases.append(lease(f"h{n}", *devices, reserve=reserve, ended=draw(st.sampled_from([None, None, None, 1.0]))))
        if draw(st.booleans()):
            idle[unit(f"h{n}")] = draw(st.floats(1, 9))
        for uuid in devices:
            used[uuid].append((unit(f"h{n}"), draw(st.integers(0, 20))))
    for uuid in "abc":
        used[uuid] += [("gdm.service", size) for size in draw(st.lists(st.integers(0, 45), max_size=1))]
    return machine(
        *(gpu(uuid, processes=tuple(process(name, size) for name, size in used[uuid])) for uuid in "abc")
    ), Occupancy(tuple(leases), idle)


def without(situation: tuple[Inventory, Occupancy], gone: tuple[str, ...]) -> tuple[Inventory, Occupancy]:
    """The same once these units have ended and their memory is free."""
    inventory, table = situation
    left = (tuple(p for p in device.processes if p.unit not in gone) for device in inventory.devices)
    devices = (gpu(device.uuid, processes=each) for device, each in zip(inventory.devices, left, strict=True))
    return machine(*devices), Occupancy(tuple(le for le in table.leases if le.unit not in gone))


def possible(table: Occupancy) -> list[tuple[str, ...]]:
    """All sets of units that may be put to sleep."""
    idle = [le.unit for le in table.leases if le.unit in table.idle and le.ended_at is None]
    return list(chain.from_iterable(combinations(idle, size) for size in range(1, len(idle) + 1)))


@given(situations(), st.integers(1, 3), st.integers(0, 45))
def test_those_who_are_put_to_sleep_are_all_needed_and_enough(
    situation: tuple[Inventory, Occupancy], count: int, peak: int
) -> None:
    """The app is served once they are gone, and not if one of them stays."""
    decision = place(wanted(count, peak=peak), *situation)
    if isinstance(decision, Wait) and decision.evict:
        assert isinstance(place(wanted(count, peak=peak), *without(situation, decision.evict)), Granted)
        for spared in decision.evict:
            fewer = tuple(each for each in decision.evict if each != spared)
            assert isinstance(place(wanted(count, peak=peak), *without(situation, fewer)), Wait)


@given(situations(), st.integers(1, 3), st.integers(0, 45))
def test_nobody_waits_for_what_a_sleep_would_give(
    situation: tuple[Inventory, Occupancy], count: int, peak: int
) -> None:
    """Where nobody is put to sleep, no set of idle apps would have helped."""
    decision = place(wanted(count, peak=peak), *situation)
    if isinstance(decision, Wait) and not decision.evict:
        for gone in possible(situation[1]):
            assert isinstance(place(wanted(count, peak=peak), *without(situation, gone)), Wait)


@given(situations(), st.integers(1, 3), st.integers(0, 45))
def test_what_is_granted_fits_beside_all_that_is_there(
    situation: tuple[Inventory, Occupancy], count: int, peak: int
) -> None:
    """The reserves of apps, or what they use where that is more, and other programs' memory."""
    inventory, table = situation
    decision = place(wanted(count, peak=peak), inventory, table)
    if isinstance(decision, Granted):
        for device in decision.devices:
            holders = {le.unit: le.reserve_bytes for le in table.leases if device.uuid in le.devices}
            assert not holders or (decision.reserve_bytes and all(holders.values()))
            apps = sum(max(holders[u], sum(p.used_bytes for p in device.processes if p.unit == u)) for u in holders)
            others = sum(p.used_bytes for p in device.processes if p.unit not in holders)
            if holders:
                assert apps + others + decision.reserve_bytes <= device.total_bytes
            else:
                assert others <= max(spare(device), device.total_bytes - decision.reserve_bytes)
                assert others + (peak * GIB if count == 1 else 0) <= device.total_bytes


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 45), st.booleans(), st.booleans(), st.booleans()), max_size=6
    ),
    st.integers(1, 3),
    st.integers(0, 40),
)
def test_no_busy_holder_ever_gives_way_and_no_device_is_given_twice(
    held: list[tuple[str, int, bool, bool, bool]], count: int, peak: int
) -> None:
    """Whatever the state: who is evicted is idle and running; what is granted is free, or all its reserves fit."""
    leases = tuple(
        lease(f"h{n}", device, reserve=reserve, ended=1.0 if over else None)
        for n, (device, reserve, _, over, _) in enumerate(held)
    )
    idle = {le.unit: 1.0 for le, (_, _, sleepy, _, _) in zip(leases, held, strict=True) if sleepy}
    there = machine(*(gpu(uuid) for uuid in "abc"))
    decision = place(Wanted(NEW, Ask(count), peak * GIB), there, Occupancy(leases, idle))
    if isinstance(decision, Wait):
        gone = [le for le in leases if le.unit in decision.evict]
        assert set(decision.evict) <= set(idle)
        assert all(le.ended_at is None for le in gone)
        if gone:  # and it helps
            left = tuple(le for le in leases if le.unit not in decision.evict)
            assert isinstance(place(Wanted(NEW, Ask(count), peak * GIB), there, Occupancy(left, {})), Granted)
    assert isinstance(decision, Granted | Wait)
    if isinstance(decision, Granted):
        assert len({d.uuid for d in decision.devices}) == count
        for device in decision.devices:
            others = [le for le in leases if device.uuid in le.devices]
            total = sum(le.reserve_bytes or device.total_bytes for le in others) + decision.reserve_bytes
            assert total <= device.total_bytes
            assert not others or decision.reserve_bytes
