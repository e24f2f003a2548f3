"""Which device an app gets, whom it may displace, and what it is told when it has to wait."""

from __future__ import annotations

import pytest

from flyted.plan.gpus.place import Granted, Never, Occupancy, Wait, describe, place
from tests.plan.gpus import GIB, gpu, lease, machine, process, unit, wanted


def got(decision: object) -> list[str]:
    """The UUIDs of a grant."""
    assert isinstance(decision, Granted), decision
    return [device.uuid for device in decision.devices]


def test_an_empty_device_comes_first_and_the_emptiest_for_an_unknown_need() -> None:
    """Nobody knows what it will take: the most room."""
    there = machine(gpu("a", used=30), gpu("b", used=1), gpu("c"))
    assert got(place(wanted(), there, Occupancy((lease("x", "c"),)))) == ["b"]


def test_a_known_need_takes_the_tightest_fit() -> None:
    """A small app leaves the large card for a large one."""
    there = machine(gpu("a", used=1), gpu("b", used=35), gpu("c", used=41))
    decision = place(wanted(peak=8), there, Occupancy(()))
    assert got(decision) == ["b"]
    assert isinstance(decision, Granted)
    assert decision.reserve_bytes == round(8.8 * GIB)


def test_known_needs_share_when_all_fit() -> None:
    """Two that were seen to take 10 and 20 of 45 GiB."""
    there = machine(gpu("a", processes=(process(unit("x"), 2),)))
    table = Occupancy((lease("x", "a", reserve=22),))
    assert got(place(wanted(peak=20), there, table)) == ["a"]
    assert isinstance(place(wanted(peak=21), there, table), Wait)  # 23.1 + 22 > 45


def test_an_unknown_need_shares_with_nobody() -> None:
    """Neither the newcomer's nor the holder's."""
    there = machine(gpu("a"))
    assert isinstance(place(wanted(), there, Occupancy((lease("x", "a", reserve=1),))), Wait)
    assert isinstance(place(wanted(peak=1), there, Occupancy((lease("x", "a"),))), Wait)


def test_a_holder_that_grew_counts_as_it_is() -> None:
    """More than its reserve is in use: that much is gone."""
    there = machine(gpu("a", processes=(process(unit("x"), 30),)))
    assert isinstance(place(wanted(peak=20), there, Occupancy((lease("x", "a", reserve=10),))), Wait)


def test_programs_that_are_no_apps_take_room_but_hold_nothing() -> None:
    """A desktop's memory leaves less; it is no lease."""
    there = machine(gpu("a", processes=(process("gdm.service", 20),)))
    assert got(place(wanted(peak=20), there, Occupancy(()))) == ["a"]
    decision = place(wanted(peak=30), there, Occupancy(()))
    assert isinstance(decision, Wait)
    assert decision.why.endswith(
        "25.0 of 45.0 GiB free, 20.0 GiB used by programs that are not apps (python, process 7)"
    )


@pytest.mark.parametrize(("gib", "foreign", "enough"), [
    (80, 7.9, True), (80, 8.1, False), (80, 70, False),  # a tenth
    (8, 1.9, True), (8, 2.1, False), (4, 0.9, True), (4, 1.1, False),  # a desktop's 2 GiB, or a quarter
    (45, 0.5, True),
])  # fmt: skip
@pytest.mark.parametrize("count", [1, 2])
def test_a_whole_device_is_one_that_other_programs_hardly_use(
    gib: int, foreign: float, count: int, *, enough: bool
) -> None:
    """For an unknown need, and for several; the driver's own memory counts as theirs."""
    for used in ({"processes": (process("gdm.service", foreign),)}, {"used": foreign}):
        there = machine(gpu("a", gib=gib, **used), gpu("b", gib=gib, **used))
        assert isinstance(place(wanted(count), there, Occupancy(())), Granted if enough else Wait)


def test_who_needs_a_whole_device_is_told_who_uses_too_much_of_it() -> None:
    """The program, how much, and how much it may be; of the other device that nobody uses it."""
    there = machine(gpu("GPU-1", gib=80, processes=(process("", 70),)), gpu("GPU-2", gib=80))
    decision = place(wanted(2), there, Occupancy((lease("x", "GPU-1", reserve=5),), {unit("x"): 2.0}))
    assert isinstance(decision, Wait)
    assert decision.evict == ()
    assert decision.why == (
        "needs 2 × GPU; GPU-1 NVIDIA L40S, 10.0 of 80.0 GiB free, held by x (idle), 70.0 GiB used by programs "
        "that are not apps (python, process 7), at most 8.0 GiB where an app needs a whole GPU; "
        "GPU-2 NVIDIA L40S, 80.0 of 80.0 GiB free, not in use"
    )


def test_an_app_that_uses_a_device_without_a_lease_holds_it() -> None:
    """The record was lost; the memory tells."""
    there = machine(gpu("a", processes=(process(unit("x"), 1),)))
    decision = place(wanted(peak=1), there, Occupancy((), {unit("x"): 5.0}))
    assert isinstance(decision, Wait)
    assert "held by x" in decision.why


def test_several_are_of_one_product_and_its_own() -> None:
    """Two L40S, not one and a T4; free ones only."""
    there = machine(gpu("t", "Tesla T4", 15), gpu("a"), gpu("b"))
    assert sorted(got(place(wanted(2), there, Occupancy(())))) == ["a", "b"]
    assert isinstance(place(wanted(2), there, Occupancy((lease("x", "a", reserve=1),))), Wait)


def test_the_best_idle_holder_gives_way() -> None:
    """Idle time ÷ load time decides, and only as many go as needed."""
    there = machine(gpu("a"), gpu("b"))
    table = Occupancy((lease("x", "a"), lease("y", "b")), {unit("x"): 2.0, unit("y"): 9.0})
    decision = place(wanted(), there, table)
    assert decision == Wait(decision.why, (unit("y"),), frozenset("ab"))  # type: ignore[union-attr]


def test_only_as_many_go_as_are_needed() -> None:
    """Of three that share a device the one that has been idle for longest."""
    there = machine(gpu("a"))
    leases = (lease("x", "a", reserve=15), lease("y", "a", reserve=15), lease("z", "a", reserve=10))
    idle = {unit("x"): 1.0, unit("y"): 7.0, unit("z"): 3.0}
    decision = place(wanted(peak=15), there, Occupancy(leases, idle))
    assert isinstance(decision, Wait)
    assert decision.evict == (unit("y"),)
    alone = place(wanted(), there, Occupancy(leases, idle))
    assert isinstance(alone, Wait)
    assert set(alone.evict) == {unit("x"), unit("y"), unit("z")}


@pytest.mark.parametrize("peak", [41.5, 44, 60])
def test_who_filled_a_device_gets_an_empty_one_again(peak: float) -> None:
    """vLLM takes nine tenths and more; with headroom that is more than there is. 60 was seen on a larger GPU."""
    there = machine(gpu("a", used=0.5))
    decision = place(wanted(peak=peak), there, Occupancy(()))
    assert got(decision) == ["a"]
    assert isinstance(decision, Granted)
    assert decision.reserve_bytes in (0, 45 * GIB)  # nobody shares it
    asleep = place(wanted(peak=peak), there, Occupancy((lease("x", "a", reserve=1),), {unit("x"): 2.0}))
    assert isinstance(asleep, Wait)
    assert asleep.evict == (unit("x"),)


def test_a_peak_that_other_programs_leave_no_room_for_is_waited_for() -> None:
    """The headroom gives way, the peak does not; nor does a larger device that is taken just now."""
    there = machine(gpu("a", processes=(process("gdm.service", 2),)))
    assert got(place(wanted(peak=42.9), there, Occupancy(()))) == ["a"]
    assert isinstance(place(wanted(peak=43.1), there, Occupancy(())), Wait)
    both = machine(gpu("a"), gpu("b", "NVIDIA H100", 80))
    assert isinstance(place(wanted(peak=60), both, Occupancy((lease("x", "b"),))), Wait)


def test_an_app_gives_way_though_a_program_fills_another_gpu() -> None:
    """Nobody can be put to sleep there, so that GPU is no help, and the idle app's is."""
    there = machine(gpu("a", processes=(process("gdm.service", 44),)), gpu("b"))
    decision = place(wanted(peak=20), there, Occupancy((lease("x", "b"),), {unit("x"): 2.0}))
    assert isinstance(decision, Wait)
    assert decision.evict == (unit("x"),)


def test_who_waits_claims_what_it_may_get_only() -> None:
    """Not the GPU that a program fills, whoever goes: others may have what is left of that."""
    there = machine(gpu("a", processes=(process("gdm.service", 30),)), gpu("b"))
    decision = place(wanted(), there, Occupancy((lease("x", "b", reserve=1),)))
    assert isinstance(decision, Wait)
    assert decision.claims == {"b"}


def test_nobody_is_put_to_sleep_where_a_program_leaves_too_little() -> None:
    """80 GiB, 60 of them a program's: 44 do not fit, whoever sleeps."""
    there = machine(gpu("a", gib=80, processes=(process("", 60),)))
    decision = place(wanted(peak=40), there, Occupancy((lease("x", "a", reserve=5),), {unit("x"): 2.0}))
    assert isinstance(decision, Wait)
    assert decision.evict == ()


def test_the_memory_of_who_goes_counts_as_free_beside_those_who_stay() -> None:
    """Of two that share, one is enough: what it uses now comes back."""
    there = machine(gpu("a", processes=(process(unit("x"), 20, 1), process(unit("y"), 20, 2))))
    leases = (lease("x", "a", reserve=22), lease("y", "a", reserve=22))
    decision = place(wanted(peak=19), there, Occupancy(leases, {unit("x"): 2.0, unit("y"): 1.0}))
    assert isinstance(decision, Wait)
    assert decision.evict == (unit("x"),)


def test_who_frees_too_little_stays_when_another_frees_enough() -> None:
    """The small one has been idle for longest, and alone does not help."""
    there = machine(gpu("a"))
    leases = (lease("x", "a", reserve=2), lease("y", "a", reserve=40))
    decision = place(wanted(peak=20), there, Occupancy(leases, {unit("x"): 9.0, unit("y"): 1.0}))
    assert isinstance(decision, Wait)
    assert decision.evict == (unit("y"),)


def test_who_holds_two_frees_two() -> None:
    """One with two GPUs goes, and not another one for the second."""
    there = machine(gpu("a"), gpu("b"), gpu("c"))
    leases = (lease("x", "a", "b"), lease("y", "c"))
    decision = place(wanted(2), there, Occupancy(leases, {unit("x"): 1.0, unit("y"): 9.0}))
    assert isinstance(decision, Wait)
    assert decision.evict == (unit("x"),)


def test_memory_that_is_coming_back_is_waited_for() -> None:
    """Its device is nobody's until then, and nobody is put to sleep for it; its own old lease counts too."""
    there = machine(gpu("a"))
    for app in ("x", "new"):
        decision = place(wanted(), there, Occupancy((lease(app, "a", ended=5.0),), {unit(app): 9.0}))
        assert isinstance(decision, Wait)
        assert decision.evict == ()
        assert "is not released yet" in decision.why


def test_the_waiting_one_is_told_the_arithmetic() -> None:
    """Need, devices, free of total, holders."""
    there = machine(gpu("GPU-1f3a0b2c-0000", processes=(process(unit("x"), 40.5),)))
    decision = place(wanted(name="L40S", peak=10), there, Occupancy((lease("x", "GPU-1f3a0b2c-0000", reserve=40),)))
    assert isinstance(decision, Wait)
    assert decision.why == (
        "needs 1 × L40S, 11.0 GiB of it; GPU-1f3a0b2c… NVIDIA L40S, 4.5 of 45.0 GiB free, held by x (busy)"
    )


def test_never_is_said_at_once() -> None:
    """What the machine does not have is not waited for."""
    assert isinstance(place(wanted(name="H100"), machine(gpu("a")), Occupancy(())), Never)


def test_a_device_is_described_in_one_unit() -> None:
    """As the issue shows it."""
    assert describe(gpu("GPU-1f3a0b2c-0000", used=0.8)) == "GPU-1f3a0b2c… NVIDIA L40S, 44.2 of 45.0 GiB free"
