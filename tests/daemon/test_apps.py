"""The app verbs on a machine in memory: what they cost does not depend on other apps."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from types import SimpleNamespace
from typing import Any

import pytest

from flyted.contract.answers.apps import AppStatus
from flyted.contract.answers.events import Event
from flyted.contract.names import AppKey, Replica
from flyted.contract.status import AppState
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.verbs import Call
from flyted.daemon.apps import verbs as apps_module
from flyted.daemon.apps.locks import DeployLocks
from flyted.daemon.apps.status import app_status
from flyted.daemon.apps.verbs import Apps
from flyted.host import people
from flyted.plan.crowd import FOLLOWED
from flyted.plan.facts import Facts, StoredApp
from flyted.plan.idle import Traffic
from tests.daemon.fake import Machine, beside

SUBORDINATE = 100_000  # subuid(5)
KEY = AppKey("default", "development", "a")


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Each app that was described for an answer, and how many units were looked at for it."""
    seen: list[tuple[str, int]] = []

    def counted(app: StoredApp, facts: Facts, *words: Any) -> AppStatus:
        seen.append((app.key.name, len(facts.units)))
        return app_status(app, facts, *words)

    monkeypatch.setattr(apps_module, "app_status", counted)
    return seen


def verbs(machine: Machine) -> Apps:
    """The handlers; no deploy is under way."""
    deploy: Any = SimpleNamespace(locks=DeployLocks())
    nothing: Any = None
    return Apps(
        machine.store,
        machine.loop,
        machine.look,
        machine.execute,
        machine.explain,
        machine.config,
        deploy,
        nothing,
        nothing,
    )


def call(**more: Any) -> Call:
    """A verb on the app "a"."""
    words = {"project": KEY.project, "domain": KEY.domain, "name": KEY.name, **more}

    async def unheard(_event: Event) -> None:
        return None

    return Call(Actor(0, 1), words, b"", {}, unheard)


def test_a_stop_waits_by_the_names_of_units(machine: Machine, described: list[tuple[str, int]]) -> None:
    """Its last request ends after twenty passes: the app is described once, for the answer, without the others."""
    replica = machine.deployed("a")
    machine.runs(replica, idle_s=0.0)
    for n in range(30):
        machine.runs(machine.deployed(f"other{n}"))
    machine.haproxy.traffic[replica.server] = Traffic(1, 0, 1, 0, 0.0, 0.0, "p", 1e6)

    async def story() -> None:
        await machine.loop.settle()
        stop = asyncio.create_task(verbs(machine).stop(call()))
        await asyncio.sleep(10)
        assert not stop.done()
        machine.haproxy.traffic[replica.server] = Traffic(0, 0, 1, 1, 0.0, 10.0, "p", 1e6)
        answer = await stop
        assert answer.state is AppState.STOPPED
        assert answer.units == ()

    beside(machine, story)
    assert described == [("a", 0)]


def test_a_stop_waits_for_its_own_units_alone(machine: Machine) -> None:
    """Those of an app whose name goes on where its own ends stay: "a-r1-0" of "a", "a-r1-0-r1-0" of "a-r1-0"."""
    machine.runs(machine.deployed("a"), idle_s=0.0)
    other = machine.deployed("a-r1-0")
    machine.runs(other, idle_s=0.0)

    async def story() -> None:
        await machine.loop.settle()
        async with asyncio.timeout(100):
            await verbs(machine).stop(call())

    beside(machine, story)
    assert machine.active(other.service) == "active"
    assert machine.active(Replica("a", 1).socket) == ""


def test_a_list_lets_others_go_first(machine: Machine) -> None:
    """Between two parts of it the loop does what else is there: a start that asks for its credential."""
    for n in range(120):
        machine.deployed(f"a{n}")

    async def story() -> None:
        await machine.loop.settle()
        listing = asyncio.create_task(verbs(machine).list(call(project="", domain="")))
        turns = 0
        while not listing.done():
            await asyncio.sleep(0)
            turns += 1
        assert len(listing.result().apps) == 120
        assert turns >= 120 // apps_module.LISTED_AT_ONCE

    beside(machine, story)


def test_followed_logs_are_few_and_shared(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes something of which root has little. Who follows none may follow one; root may always."""
    machine.deployed("a")
    handlers = verbs(machine)
    monkeypatch.setattr(people, "is_account", lambda uid: uid < SUBORDINATE)

    async def story() -> None:
        tasks: list[asyncio.Task[Any]] = []

        async def follows(uid: int) -> str:
            asked = dataclasses.replace(call(lines=0, follow=True), actor=Actor(uid, 1))
            tasks.append(asyncio.create_task(handlers.logs(asked)))
            await asyncio.sleep(0)
            return str(tasks[-1].exception()) if tasks[-1].done() else ""

        took = {}
        for uid in range(1000, 1003):
            took[uid] = 0
            while not (said := await follows(uid)):
                took[uid] += 1
            assert re.search(rf"you follow {took[uid]} logs? already", said)
        assert (took[1000], sum(took.values()) < FOLLOWED.most) == (8, True)
        answers = [await follows(uid) for uid in range(SUBORDINATE, SUBORDINATE + 20)]
        assert answers.count("") < 3, "the users of a namespace are one"
        for _ in range(40):
            assert await follows(0) == ""
        assert await follows(1003) == ""
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await follows(1002) == ""
        tasks[-1].cancel()

    beside(machine, story)


def test_the_log_of_many_replicas_ends_with_the_first_one_of_the_newest_revision(machine: Machine) -> None:
    """Who follows it for long is left with the last names, not with those of replicas that there may never be."""
    for _ in range(2):
        newest = machine.deployed("a", max_replicas=64)
        machine.store.begun(Replica("a", newest.revision, 63))
    found = machine.explain._services("a")
    assert len(found) == 2 * 64
    assert found[-40:] == [Replica("a", newest.revision, number).service for number in reversed(range(40))]
    assert machine.explain._services("b") == []
