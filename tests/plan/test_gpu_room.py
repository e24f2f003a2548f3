"""For how many more replicas there are GPUs: other apps keep theirs, and nobody is overtaken."""

from __future__ import annotations

from dataclasses import replace

from flyted.contract.gpu import Ask
from flyted.contract.names import Replica
from flyted.plan.gpus.facts import Asking, GpuFacts, Learned
from flyted.plan.gpus.queue import plan_gpus
from flyted.plan.gpus.room import room
from flyted.plan.reconcile import reconcile
from flyted.plan.scaling import GPUS_S, Scale
from tests.plan.gpus import GIB, gpu, lease, machine
from tests.values import DOMAIN, app, facts, pair, quiet

THREE = machine(gpu("GPU-1"), gpu("GPU-2"), gpu("GPU-3"))


def test_as_many_as_there_are_free_devices() -> None:
    """Up to the number that is wanted."""
    found = GpuFacts(leases=(lease("a", "GPU-1"),), inventory=THREE)
    assert [room("a", Ask(1), found, most) for most in (0, 1, 2, 5)] == [0, 1, 2, 2]
    assert room("a", Ask(2), found, 5) == 1
    assert room("a", Ask(1, "H200"), found, 5) == 0


def test_replicas_share_a_device_if_their_peaks_fit() -> None:
    """As apps do."""
    one = machine(gpu("GPU-1", gib=45))
    found = GpuFacts(leases=(lease("a", "GPU-1", reserve=11),), inventory=one, learned={"a": Learned(10 * GIB)})
    assert room("a", Ask(1), found, 9) == 3


def test_none_while_a_start_waits() -> None:
    """It came first."""
    waits = (Asking(Replica("b", 1), Ask(1)),)
    assert room("a", Ask(1), GpuFacts(asking=waits, inventory=THREE), 3) == 0
    assert room("a", Ask(1), GpuFacts(), 3) == 0


A = [Replica("a", 1, number) for number in range(3)]
ON_GPU = app(max_replicas=3, concurrency=1, gpu_count=1)
BUSY = {
    "units": {**pair(A[0], "active")}, "traffic": {A[0].server: quiet(0, in_flight=3)},
    "scales": {"a": Scale(1, needed=3, seen_at=999.5)},
}  # fmt: skip


def test_another_replica_needs_a_gpu_that_is_free() -> None:
    """First the GPUs are looked at; if there is none, they are looked at again later, not at each pass."""
    unseen = GpuFacts(leases=(lease("a", "GPU-1"),))
    first = reconcile(facts(ON_GPU, gpu=unseen, **BUSY), {}, DOMAIN, 1000.0)
    assert (first.gpu.look, first.actions) == (True, ())
    one = replace(unseen, inventory=machine(gpu("GPU-1"), gpu("GPU-2")))
    second = reconcile(facts(ON_GPU, gpu=one, **BUSY), {}, DOMAIN, 1000.0)
    assert second.scales["a"].extra == {1}
    none = replace(one, inventory=machine(gpu("GPU-1")))
    third = reconcile(facts(ON_GPU, gpu=none, **BUSY), {}, DOMAIN, 1000.0)
    assert (third.scales["a"].extra, third.actions) == (frozenset(), ())
    later = facts(ON_GPU, gpu=unseen, **{**BUSY, "scales": third.scales})
    assert not reconcile(later, {}, DOMAIN, 1000.0 + GPUS_S - 0.1).gpu.look
    assert reconcile(later, {}, DOMAIN, 1000.0 + GPUS_S).gpu.look


def test_no_other_replica_is_added_before_the_last_one_has_its_gpu() -> None:
    """Until then a device looks free that is not."""
    one = GpuFacts(leases=(lease("a", "GPU-1"),), inventory=THREE)
    scales = {"a": Scale(1, frozenset({1}), needed=3, seen_at=999.5)}
    more = {**BUSY, "scales": scales}
    assert reconcile(facts(ON_GPU, gpu=one, **more), {}, DOMAIN, 1000.0).scales["a"].extra == {1}
    both = replace(one, leases=(*one.leases, replace(lease("a", "GPU-2"), unit=A[1].service)))
    assert reconcile(facts(ON_GPU, gpu=both, **more), {}, DOMAIN, 1000.0).scales["a"].extra == {1, 2}


def test_a_replica_does_not_take_the_gpu_of_another_one() -> None:
    """Of the same revision: both are wanted. An idle one of an earlier revision goes at once."""
    two = machine(gpu("GPU-1"), gpu("GPU-2"))
    leases = (lease("a", "GPU-1"), replace(lease("a", "GPU-2"), unit=A[1].service))
    idle = {A[0]: 10_000.0, A[1]: 10_000.0}
    for revision, evicted in ((1, False), (2, True)):
        waits = Replica("a", revision, 2)
        seen = facts(
            app("a", serving=1, revisions=2, max_replicas=3, gpu_count=1), units=pair(waits, "activating"),
            gpu=GpuFacts(leases=leases, asking=(Asking(waits, Ask(1)),), inventory=two),
        )  # fmt: skip
        units = {**seen.units, **pair(A[0], "active"), **pair(A[1], "active")}
        assert bool(plan_gpus(replace(seen, units=units), idle, 1000.0).evict) is evicted


def test_an_idle_replica_gives_its_gpu_to_another_apps_start() -> None:
    """It drains and stops, as one that is not needed; the app's last replica is asked for as any other app's."""
    units = {**pair(A[0], "active"), **pair(A[1], "active"), **pair(Replica("b", 1), "activating")}
    traffic = {A[0].server: quiet(0, in_flight=1), A[1].server: quiet(10_000)}
    leases = (lease("a", "GPU-1"), replace(lease("a", "GPU-2"), unit=A[1].service))
    asking = (Asking(Replica("b", 1), Ask(1)),)
    gpus = GpuFacts(leases=leases, asking=asking, inventory=machine(gpu("GPU-1"), gpu("GPU-2")))
    scales = {"a": Scale(1, frozenset({1}), needed=2, seen_at=1000.0)}
    seen = facts(ON_GPU, app("b", gpu_count=1), units=units, traffic=traffic, gpu=gpus, scales=scales)
    first = reconcile(seen, {}, DOMAIN, 1000.0)
    clocks = first.clocks
    first = reconcile(seen, clocks, DOMAIN, 2000.0)
    assert (first.actions, first.scales["a"].extra, first.next_pass_at) == ((), frozenset(), 2000.0)
