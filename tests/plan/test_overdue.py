"""A service that does not end in time is killed, whoever stops it; nothing else ever is."""

from __future__ import annotations

from flyted.contract.names import Replica
from flyted.plan.overdue import AGAIN_S, KILL_S, ending
from flyted.plan.unit_index import UnitFact
from flyted.plan.units import STOP_S
from tests.values import pair

A, B = Replica("a", 1), Replica("b", 1)


def test_what_ends_in_time_is_left_alone() -> None:
    """It is looked at again when its time is over, and forgotten when it has ended."""
    first = ending(pair(A, "deactivating"), {}, 100.0)
    assert (first.kill, first.since, first.next_pass_at) == ((), {A.service: 100.0}, 100.0 + KILL_S)
    second = ending(pair(A, "deactivating"), first.since, 100.0 + STOP_S)
    assert (second.kill, second.since) == ((), first.since)
    over = ending(pair(A, "inactive"), second.since, 101.0 + STOP_S)
    assert (over.kill, over.since, over.next_pass_at) == ((), {}, None)


def test_what_does_not_end_is_killed_until_it_does() -> None:
    """systemd's own SIGKILL comes first where nothing puts it off."""
    assert KILL_S > STOP_S
    late = ending({**pair(A, "deactivating"), **pair(B, "deactivating")}, {A.service: 100.0, B.service: 120.0}, 140.0)
    assert (late.kill, late.next_pass_at) == ((A.service,), 145.0)
    again = ending(pair(A, "deactivating"), late.since, 140.0 + AGAIN_S)
    assert again.kill == (A.service,)


def test_a_second_run_has_its_own_time() -> None:
    """An earlier run's slow end is not counted against it."""
    running = ending(pair(A, "active"), {A.service: 100.0}, 130.0)
    assert ending(pair(A, "deactivating"), running.since, 140.0).kill == ()


def test_only_services_of_apps_are_killed() -> None:
    """Not their sockets, nor any other unit of this machine."""
    others = {
        n: UnitFact(n, "loaded", "deactivating", "stop") for n in ("flyted-ingress.service", "x.service", A.socket)
    }
    assert ending(others, dict.fromkeys(others, 0.0), 1000.0).kill == ()
