"""What many sleeping apps cost one that is used, in questions to systemd and HAProxy. Times are in benchmarks/."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.contract.names import Replica
from flyted.daemon.execute import COMPARED_AT_ONCE
from flyted.host.tokens import Tokens
from flyted.plan.groups import SIZE
from flyted.plan.tokens import Token
from tests.daemon.clocks import BEGAN
from tests.daemon.event_loop import run
from tests.daemon.fake import Machine, beside

APPS = 20


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine with many apps that sleep."""
    found = Machine(tmp_path)
    for number in range(APPS):
        replica = found.deployed(f"a{number}")
        found.systemd.set(replica.socket, "active")
        found.systemd.set(replica.service, "inactive")
    yield found
    found.close()


def test_a_pass_in_which_nothing_has_changed_asks_for_no_unit(machine: Machine) -> None:
    """Nor for a counter of the ingress, as nothing runs."""

    async def story() -> None:
        await machine.loop.settle()
        machine.systemd.listed.clear()
        machine.haproxy.asked.clear()
        for _ in range(5):
            await machine.loop.settle()
        assert machine.systemd.listed == []
        assert machine.haproxy.asked["stats"] == 0

    beside(machine, story)


def test_a_pass_in_which_nothing_is_due_costs_tokens_certificate_and_images_nothing(machine: Machine) -> None:
    """No question to HAProxy, no call for the timer, no file; also with a token."""
    table = Tokens(machine.store.database)
    table.add(Token("d", "i", "named", "root", 0, "", "", BEGAN, BEGAN + 1e6))

    async def story() -> None:
        await machine.loop.settle()
        await asyncio.sleep(1)
        await machine.loop.settle()
        assert machine.haproxy.asked["set_certificate"] == 1
        machine.haproxy.asked.clear()
        armed = len(machine.clock.armed)
        machine.store.database.close()  # nobody reads it
        for _ in range(5):
            await machine.loop.settle()
        assert machine.haproxy.asked == {"apply": 5}
        assert len(machine.clock.armed) == armed
        assert not machine.images.folder.exists()

    beside(machine, story)


def test_a_change_that_systemd_signals_is_not_asked_for(machine: Machine) -> None:
    """One app wakes: neither its units nor the others are listed."""
    replica = Replica("a0", 1)

    async def story() -> None:
        await machine.loop.settle()
        machine.systemd.listed.clear()
        machine.systemd.set(replica.service, "active")
        await machine.loop.settle()
        await asyncio.sleep(1)
        assert machine.systemd.listed == []
        assert replica.service in machine.systemd.look().others

    beside(machine, story)


def test_the_ingress_counts_for_apps_that_run_alone(machine: Machine) -> None:
    """Of the others it is not asked anything."""
    replica = Replica("a0", 1)

    async def story() -> None:
        machine.runs(replica, idle_s=0.0)
        await machine.loop.settle()
        await machine.loop.settle()
        assert machine.haproxy.counted
        assert all(servers == [replica.server] for servers in machine.haproxy.counted)

    beside(machine, story)


def test_others_have_their_turn_while_units_are_compared(machine: Machine) -> None:
    """At the daemon's start those of all apps are made in memory: between a few and the next, verbs are answered."""
    turns = 0

    async def story() -> None:
        nonlocal turns
        finding = asyncio.create_task(machine.loop.find_outdated())
        while not finding.done():
            turns += 1
            await asyncio.sleep(0)

    run(story())
    assert turns > APPS // COMPARED_AT_ONCE
    assert len(machine.execute.outdated) == APPS, "they have no start file here"


def test_a_stop_looks_at_the_units_of_one_app(machine: Machine) -> None:
    """However many others there are."""
    replica = Replica("a0", 1)

    async def story() -> None:
        await machine.loop.settle()
        machine.systemd.listed.clear()
        machine.store.want("a0", "stopped", 2.0)
        await machine.loop.settle()
        await asyncio.sleep(10)

    beside(machine, story)
    asked = [names for names in machine.systemd.listed if set(names) - {replica.socket, replica.service}]
    assert asked == []
    assert machine.systemd.asked["stop"] == 2, "its socket and its service"
    assert replica.socket not in machine.systemd.units


def test_the_work_of_a_pass_hardly_grows_with_the_apps_that_sleep(tmp_path: Path) -> None:
    """Ten times as many apps: a few calls more for each group of them, and none for each app."""

    def calls(apps: int) -> int:
        (tmp_path / str(apps)).mkdir()
        machine, counted = Machine(tmp_path / str(apps)), 0
        for number in range(apps):
            replica = machine.deployed(f"a{number}")
            machine.systemd.set(replica.socket, "active")
            machine.systemd.set(replica.service, "inactive")

        def count(_frame: object, event: str, _arg: object) -> None:
            nonlocal counted
            counted += event == "call"

        async def story() -> None:
            for _ in range(3):
                await machine.loop.settle()
            machine.store.want("a1", "stopped", 2.0)
            before = sys.getprofile()
            sys.setprofile(count)
            await machine.loop.settle()
            sys.setprofile(before)

        beside(machine, story)
        machine.store.close()
        return counted

    few, many = calls(SIZE), calls(10 * SIZE)
    assert many - few < 9 * SIZE
