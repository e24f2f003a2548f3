"""The real loop on a machine in memory: no order of events brings two actions to one pair."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from flyted.contract.errors import HostFailure
from flyted.contract.names import Replica
from flyted.daemon.listeners import Pass
from flyted.host.gpu_records import GpuRecords
from flyted.plan.actions import Sleep
from flyted.plan.ingress.ports import INGRESS_UNIT
from flyted.plan.start import LIMIT
from tests.daemon.fake import HUGE, Machine, beside, until
from tests.plan.gpus import gpu, lease
from tests.plan.gpus import machine as inventory_of_machine


def sleep_by_hand(machine: Machine, replica: Replica) -> Coroutine[Any, Any, None]:
    """As the verb app.sleep does it."""
    return machine.loop.exclusively(replica, lambda: machine.execute.do(Sleep(replica)))


def test_a_verb_and_the_loop_put_one_app_to_sleep_one_after_the_other(machine: Machine) -> None:
    """The verb comes while a pass, which has decided the same already, waits for the ingress."""
    replica = machine.deployed("a", scaledown_after_s=1.0)
    machine.runs(replica)
    machine.haproxy.took_s, machine.systemd.took_s["stop"] = 0.5, 1.0

    async def story() -> None:
        await machine.loop.settle()
        machine.haproxy.asked.clear()
        await until(lambda: bool(machine.haproxy.asked["apply"]))  # the look at which it is idle
        await sleep_by_hand(machine, replica)
        await machine.loop.settle()
        await asyncio.sleep(10)

    beside(machine, story)
    assert machine.systemd.at_once[replica] == 1
    assert machine.active(replica.service) == "inactive"


def test_a_verb_waits_for_a_pair_that_is_being_made(machine: Machine) -> None:
    """A pass makes the units, which takes systemd a second: nobody stops one of them meanwhile."""
    replica = machine.deployed("a")
    machine.systemd.took_s |= {"start_pair": 1.0, "stop": 0.5}

    async def story() -> None:
        machine.loop.poke()
        await until(lambda: bool(machine.systemd.asked["start_pair"]))
        await sleep_by_hand(machine, replica)
        await machine.loop.settle()

    beside(machine, story)
    assert machine.systemd.at_once[replica] == 1
    assert machine.active(replica.socket) == "active"


def test_a_verb_that_comes_while_a_failure_is_explained_has_the_pair_to_itself(machine: Machine) -> None:
    """The journal takes a second to say why a socket failed; what the pass then clears up waits for the verb."""
    replica = machine.deployed("a")
    machine.runs(replica, idle_s=0.0)
    machine.journal.took_s, machine.systemd.took_s["stop"] = 1.0, 0.6

    async def story() -> None:
        await machine.loop.settle()
        machine.systemd.set(replica.service, "failed")
        machine.systemd.set(replica.socket, "failed")
        await asyncio.sleep(0.5)
        await sleep_by_hand(machine, replica)
        await until(lambda: replica in machine.loop.failures and machine.loop.failures[replica].reason != "")
        await machine.loop.settle()

    beside(machine, story)
    assert machine.systemd.at_once[replica] == 1
    assert machine.systemd.asked["start_pair"] == 0, "it is not made anew without the pause after a failure"


def test_two_verbs_take_turns_and_each_end_brings_a_pass(machine: Machine) -> None:
    """Also one whose caller leaves before its turn."""
    replica = machine.deployed("a")
    machine.runs(replica, idle_s=0.0)
    machine.systemd.took_s["stop"] = 1.0

    async def story() -> None:
        await machine.loop.settle()
        verbs = [asyncio.create_task(sleep_by_hand(machine, replica)) for _ in range(4)]
        await asyncio.sleep(0.1)
        verbs[1].cancel()
        await asyncio.gather(*verbs, return_exceptions=True)
        await machine.loop.at_rest(replica)
        await machine.loop.settle()

    beside(machine, story)
    assert machine.systemd.at_once[replica] == 1
    assert machine.systemd.asked["stop"] == 3


@pytest.mark.parametrize("unit", ["flyted-gpu.service", "flyted-erase-a.service", "flyted-app-strange.service"])
def test_a_unit_that_is_no_apps_brings_no_pass_about(machine: Machine, unit: str) -> None:
    """The GPU helper ends, somebody's own unit changes: nothing is looked at."""
    replica = machine.deployed("a")

    async def story() -> None:
        await machine.loop.settle()
        await asyncio.sleep(1)
        before = machine.haproxy.asked["apply"]
        machine.systemd.set(unit, "active")
        machine.systemd.gone(unit)
        await asyncio.sleep(1)
        assert machine.haproxy.asked["apply"] == before
        machine.systemd.set(replica.service, "active")
        await asyncio.sleep(1)
        assert machine.haproxy.asked["apply"] > before

    beside(machine, story)


def test_word_of_the_ingress_has_it_asked_again(machine: Machine) -> None:
    """Its unit changed, or signals were missed."""
    machine.deployed("a")

    async def story() -> None:
        await machine.loop.settle()
        for unit in (INGRESS_UNIT, ""):
            machine.haproxy.asked.clear()
            machine.loop.unit_changed(unit)
            await machine.loop.settle()
            assert machine.haproxy.asked["forget"] == 1

    beside(machine, story)


def test_time_goes_by_itself(machine: Machine) -> None:
    """An app with five minutes of scaledown sleeps after five minutes of the machine's clock, which take no time."""
    replica = machine.deployed("a", scaledown_after_s=300.0)
    machine.runs(replica, idle_s=0.0)

    async def story() -> None:
        clock = asyncio.get_running_loop().time
        await machine.loop.settle()
        began = clock()
        await until(lambda: machine.active(replica.service) == "inactive")
        assert 299.0 < clock() - began < 303.0

    beside(machine, story)


def test_a_failure_that_takes_long_to_explain_keeps_nobody_waiting(machine: Machine) -> None:
    """The journal takes twenty seconds; another app comes up meanwhile."""
    fallen = machine.deployed("fallen")
    machine.runs(fallen)
    machine.journal.took_s = 20.0

    async def story() -> None:
        await machine.loop.settle()
        machine.systemd.gone(fallen.socket)
        machine.systemd.gone(fallen.service)
        web = machine.deployed("web")
        async with asyncio.timeout(1):
            await machine.loop.settle()
        assert machine.active(web.socket) == "active"
        await until(lambda: machine.loop.failures[fallen].reason != "")

    beside(machine, story)


def test_visitors_hear_that_an_app_cannot_serve_before_its_failure_is_explained(machine: Machine) -> None:
    """The journal takes twenty seconds: until then the app is not "starting"; nothing starts it."""
    fallen = machine.deployed("fallen")
    machine.runs(fallen)
    machine.journal.took_s = 20.0

    async def story() -> None:
        await machine.loop.settle()
        machine.systemd.gone(fallen.socket)
        machine.systemd.set(fallen.service, "failed")
        await machine.loop.settle()
        assert machine.haproxy.state is not None
        said = machine.haproxy.state.unavailable["fallen.apps.localhost"].reason
        assert said == '"fallen" cannot serve now; its operator can see why: flytectl app get fallen'

    beside(machine, story)


def test_an_app_whose_units_cannot_be_made_keeps_nobody_else_down(machine: Machine) -> None:
    """Its variables are more than the limit, as another version of flyted may have allowed."""
    huge = machine.deployed("huge", env=HUGE)
    web = machine.deployed("web")

    async def story() -> None:
        await machine.execute.find_outdated()
        await machine.loop.settle()

    beside(machine, story)
    assert machine.active(web.socket) == "active"
    assert f"the limit is {LIMIT >> 10} KiB" in machine.loop.failures[huge].reason


def test_a_disk_that_refuses_each_write_stops_no_pass(machine: Machine) -> None:
    """A lease has ended, and an app with a GPU is gone: other apps come up, and the lease is over all the same."""
    web = machine.deployed("web")
    table = machine.table
    table.hold(lease("gone", "1"))
    table.learn_load("gone", 3.0)

    async def story() -> None:
        machine.store.database._db.execute("PRAGMA query_only = ON")
        await machine.loop.settle()
        await machine.loop.settle()

    beside(machine, story)
    assert machine.active(web.socket) == "active"
    assert (table.running, table.learned_all) == ((), {})
    assert [each.ended_at for each in GpuRecords(machine.store.database).leases()] == [
        None
    ]  # the next start of flyted finds out again


def test_the_reason_of_a_failure_is_read_from_a_journal_that_is_complete(machine: Machine) -> None:
    """journald may be seconds behind: its last line would then be one of thousands before the exception."""
    replica = machine.deployed("a")
    asyncio.run(machine.explain.why_failed(replica))
    assert machine.journal.asked[0] == "sync"
    assert "read" in machine.journal.asked[1:]


def test_a_journal_that_cannot_be_read_stops_no_pass(machine: Machine) -> None:
    """An app has failed by itself, and nobody can say why: it backs off, and another one comes up."""
    fallen = machine.deployed("fallen")
    machine.runs(fallen)
    machine.journal.error = HostFailure("journalctl ended with 1")

    async def story() -> None:
        await machine.loop.settle()
        machine.systemd.gone(fallen.socket)
        machine.systemd.gone(fallen.service)
        web = machine.deployed("web")
        await machine.loop.settle()
        assert machine.active(web.socket) == "active"
        assert "journalctl ended with 1" in machine.loop.failures[fallen].reason

    beside(machine, story)


def test_a_lost_gpu_is_taken_from_each_of_its_apps(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from those behind one whose units systemd does not take down."""
    replicas = [machine.deployed(name) for name in ("a", "b")]
    stop = machine.systemd.stop

    async def stopped(name: str) -> str:
        if name == replicas[0].socket:
            raise HostFailure("systemd does not answer")
        return await stop(name)

    machine.gpu.now = lambda: inventory_of_machine(gpu("1", error="GPU is lost"))
    monkeypatch.setattr(machine.systemd, "stop", stopped)

    async def story() -> None:
        for replica in replicas:
            machine.runs(replica)
            machine.table.hold(lease(replica.app_id, "1"))
        await machine.loop.settle()
        await asyncio.sleep(0)
        assert machine.gpu.on_xid is not None
        machine.gpu.on_xid("1", 79)
        await until(lambda: replicas[1] in machine.loop.failures)
        assert "GPU is lost" in machine.loop.failures[replicas[1]].reason

    beside(machine, story)


def test_no_work_begins_beside_other_work_on_the_same_pair(machine: Machine) -> None:
    """Whoever calls it: the second is a fault of flyted, and changes nothing."""
    replica = machine.deployed("a")

    async def story() -> None:
        first = machine.loop._begin(replica, asyncio.sleep(1, "first"))
        with pytest.raises(RuntimeError, match="while other work on it runs"):
            machine.loop._begin(replica, asyncio.sleep(1, "second"))
        assert await first == "first"

    beside(machine, story)


def test_each_listener_is_told_of_each_pass_until_it_leaves(machine: Machine) -> None:
    """Also if one leaves while they are told."""
    told: list[str] = []

    async def story() -> None:
        def once(_done: Pass) -> None:
            told.append("once")
            leave()

        leave = machine.loop.listeners.add(once)
        machine.loop.listeners.add(lambda _done: told.append("always"))
        for _ in range(2):
            await machine.loop.settle()

    beside(machine, story)
    assert told[:2] == ["once", "always"]
    assert set(told[2:]) == {"always"}
