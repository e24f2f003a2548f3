"""Pairs that another version or other settings would make differently: the real loop makes them anew as they sleep."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from flyted.contract.errors import HostFailure
from flyted.daemon.execute import COMPARED_AT_ONCE
from tests.daemon.event_loop import run
from tests.daemon.fake import HUGE, Machine, beside, until


async def restarted(machine: Machine) -> None:
    """Another daemon, with other settings: each start may take longer."""
    before = machine.execute.config
    machine.execute.config = dataclasses.replace(before, start_timeout_s=before.start_timeout_s + 100)
    await machine.execute.find_outdated()


def test_after_an_upgrade_the_units_of_an_app_that_sleeps_are_made_anew(machine: Machine) -> None:
    """Once; and none where nothing has changed."""
    replica = machine.deployed("a")

    async def story() -> None:
        await machine.loop.settle()
        await machine.execute.find_outdated()
        await machine.loop.settle()
        assert machine.systemd.asked["start_pair"] == 1
        await restarted(machine)
        await machine.loop.settle()
        await until(lambda: machine.systemd.asked["start_pair"] == 2)
        await machine.execute.find_outdated()
        await machine.loop.settle()
        await asyncio.sleep(10)

    beside(machine, story)
    assert machine.systemd.asked["start_pair"] == 2
    assert machine.active(replica.socket) == "active"
    assert machine.loop.failures == {}


def test_after_an_upgrade_many_apps_that_sleep_are_renewed_a_few_at_a_time(machine: Machine) -> None:
    """Until all are."""
    replicas = [machine.deployed(f"a{number}") for number in range(30)]

    async def story() -> None:
        await machine.loop.settle()
        machine.systemd.took_s["start_pair"] = 1.0
        await restarted(machine)
        began = asyncio.get_running_loop().time()
        machine.loop.poke()
        await until(lambda: not machine.execute.outdated)
        assert 7 <= asyncio.get_running_loop().time() - began < 10

    beside(machine, story)
    assert machine.systemd.asked["start_pair"] == 2 * len(replicas)
    assert set(machine.systemd.at_once.values()) == {1}


def test_after_an_upgrade_an_app_that_runs_goes_on_until_it_sleeps(machine: Machine) -> None:
    """By the units that it has; then they are made anew."""
    replica = machine.deployed("a", scaledown_after_s=300.0)

    async def story() -> None:
        await machine.loop.settle()
        machine.runs(replica, idle_s=0.0)
        await restarted(machine)
        await machine.loop.settle()
        await asyncio.sleep(100)
        assert machine.systemd.asked["start_pair"] == 1
        assert machine.active(replica.service) == "active"
        await until(lambda: machine.systemd.asked["start_pair"] == 2)
        await machine.loop.settle()

    beside(machine, story)
    assert machine.systemd.asked["stop"] == 2, "the service, which was idle, and then the socket"
    assert machine.active(replica.socket) == "active"


def test_a_renewal_that_ends_during_a_look_is_no_failure(machine: Machine) -> None:
    """HAProxy takes long for its counters: units that were read before are older than the pair is."""
    replica = machine.deployed("a")
    other = machine.deployed("other", scaledown_after_s=10_000.0)

    async def story() -> None:
        await machine.loop.settle()
        machine.runs(other, idle_s=0.0)
        machine.systemd.took_s |= {"stop": 0.3, "start_pair": 0.3}
        await restarted(machine)
        machine.loop.poke()
        await until(lambda: bool(machine.systemd.asked["stop"]))
        await asyncio.sleep(0.35)
        assert machine.active(replica.socket) == ""
        machine.haproxy.stats_s = 1.0
        await machine.loop.settle()
        await asyncio.sleep(10)

    beside(machine, story)
    assert machine.loop.failures == {}
    assert machine.systemd.asked["start_pair"] == 3
    assert machine.active(replica.socket) == "active"


def test_a_request_that_comes_just_before_is_served_by_the_old_units(machine: Machine) -> None:
    """Between the look and the action, the ingress is told something: meanwhile the app wakes."""
    replica = machine.deployed("a")

    async def story() -> None:
        await machine.loop.settle()
        machine.haproxy.took_s = 1.0
        await restarted(machine)
        machine.loop.poke()
        await asyncio.sleep(0.5)
        machine.systemd.set(replica.service, "activating")
        await asyncio.sleep(10)
        assert machine.systemd.asked["start_pair"] == 1
        assert machine.systemd.asked["stop"] == 0
        machine.systemd.set(replica.service, "inactive")
        await until(lambda: machine.systemd.asked["start_pair"] == 2)

    beside(machine, story)


def test_a_request_that_comes_while_the_socket_is_stopped_is_answered_by_the_old_units(machine: Machine) -> None:
    """Its app starts, answers and ends before the pair is made anew."""
    replica = machine.deployed("a")

    async def story() -> None:
        await machine.loop.settle()
        machine.systemd.took_s |= {"stop": 0.3, "start": 1.0}
        await restarted(machine)
        machine.loop.poke()
        await until(lambda: bool(machine.systemd.asked["stop"]))
        machine.systemd.set(replica.service, "activating")
        await asyncio.sleep(0.5)
        assert machine.systemd.asked["start"] == 1, "the job that is under way is joined"
        await asyncio.sleep(0.5)
        assert machine.active(replica.service) == "activating"
        assert machine.systemd.asked["start_pair"] == 1
        await until(lambda: machine.systemd.asked["start_pair"] == 2)

    beside(machine, story)
    assert machine.systemd.asked["stop"] == 2, "the socket, and then the service"


def test_the_units_of_the_first_version_are_not_those_of_now(machine: Machine) -> None:
    """It wrote down nothing of what apps are told."""
    replica = machine.deployed("a")
    machine.systemd.set(replica.socket, "active")
    machine.systemd.set(replica.service, "inactive")
    run(machine.execute.find_outdated())
    assert machine.execute.outdated == {replica}


def test_an_app_whose_units_cannot_be_made_anew_keeps_those_that_it_has(machine: Machine) -> None:
    """They are not taken down for units that cannot come."""
    huge = machine.deployed("huge", env=HUGE)
    machine.systemd.set(huge.socket, "active")
    machine.systemd.set(huge.service, "inactive")

    async def story() -> None:
        await machine.execute.find_outdated()
        await machine.loop.settle()
        await asyncio.sleep(10)

    beside(machine, story)
    assert machine.systemd.asked["stop"] == 0
    assert machine.active(huge.socket) == "active"


def test_an_app_that_changes_while_others_are_compared_is_compared_too(machine: Machine) -> None:
    """Somebody types 'app start' on it, which changes none of its units."""
    replicas = [machine.deployed(f"a{number}") for number in range(2 * COMPARED_AT_ONCE)]

    async def story() -> None:
        await machine.loop.settle()
        finding = asyncio.create_task(restarted(machine))
        await asyncio.sleep(0)
        machine.store.want(replicas[-1].app_id, "started", 5.0)
        machine.store.delete(replicas[-2].app_id)
        await finding
        assert machine.execute.outdated == set(replicas) - {replicas[-2]}

    beside(machine, story)


def test_a_pair_whose_start_waits_for_other_units_is_not_tried_all_the_time(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request has come, and systemd starts the app's network first: until then the service is shown as it was."""
    machine.deployed("a")
    asked: list[float] = []

    def rests(_name: str) -> bool:
        asked.append(asyncio.get_running_loop().time())
        return len(asked) > 100

    async def story() -> None:
        await machine.loop.settle()
        monkeypatch.setattr(machine.systemd, "rests", rests)
        await restarted(machine)
        machine.loop.poke()
        await asyncio.sleep(10)

    beside(machine, story)
    assert 2 <= len(asked) <= 11


def test_a_renewal_that_fails_is_one_failure_with_its_own_reason(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pair is gone then; it is made after a pause."""
    replica = machine.deployed("a")
    start_pair = machine.systemd.start_pair

    async def failed(*_words: object) -> str:
        return "failed"

    async def story() -> None:
        await machine.loop.settle()
        monkeypatch.setattr(machine.systemd, "start_pair", failed)
        await restarted(machine)
        machine.loop.poke()
        await until(lambda: replica in machine.loop.failures)
        await asyncio.sleep(1)
        found = machine.loop.failures[replica]
        assert (found.count, found.reason) == (1, "the socket of app 'a' cannot listen: failed")
        monkeypatch.setattr(machine.systemd, "start_pair", start_pair)
        await until(lambda: machine.active(replica.socket) == "active", 5)

    beside(machine, story)


def test_a_renewal_that_cannot_begin_is_tried_again_after_a_pause(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd does not stop the socket: the pair goes on as it is."""
    replica = machine.deployed("a")
    tries: list[str] = []

    async def refused(name: str) -> str:
        tries.append(name)
        if len(tries) > 100:
            await asyncio.Event().wait()
        raise HostFailure("systemd refuses")

    async def story() -> None:
        await machine.loop.settle()
        monkeypatch.setattr(machine.systemd, "stop", refused)
        await restarted(machine)
        machine.loop.poke()
        await asyncio.sleep(60)

    beside(machine, story)
    assert 2 <= len(tries) <= 5
    assert machine.active(replica.socket) == "active"
