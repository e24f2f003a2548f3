"""What systemd refuses again and again is tried again after a pause, and only what does not serve counts as failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from flyted.contract.errors import HostFailure
from flyted.contract.status import AppState
from flyted.plan.states import state_of
from tests.daemon.fake import Machine, beside, until

MOST = 100
"""With more tries there is no pause between them: the last one then never ends, so that time goes on."""
LOST = "the connection to systemd was lost meanwhile"


def refusing(tries: list[str], do: Callable[[str], Coroutine[None, None, str]] | None = None):
    """What raises at each call, after it has done the work or without."""

    async def refused(name: str) -> str:
        tries.append(name)
        if len(tries) > MOST:
            await asyncio.Event().wait()
        if do is not None:
            await do(name)
        raise HostFailure(LOST)

    return refused


def test_an_app_that_shall_run_and_whose_network_does_not_come_up_is_started_after_pauses(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd does not begin the start ("dependency"): neither its limit of starts nor its pause counts."""
    replica = machine.deployed("a", min_replicas=1)
    tries: list[str] = []
    start = machine.systemd.start

    async def dependency(name: str) -> str:
        tries.append(name)
        if len(tries) > MOST:
            await asyncio.Event().wait()
        return "dependency"

    monkeypatch.setattr(machine.systemd, "start", dependency)

    async def story() -> None:
        machine.loop.poke()
        await asyncio.sleep(100)
        assert 3 <= len(tries) <= 5
        state, why = state_of(machine.store.app("a"), await machine.loop.facts())
        assert state is AppState.FAILED
        assert "does not start" in why
        monkeypatch.setattr(machine.systemd, "start", start)
        await until(lambda: machine.active(replica.service) == "active", 310)
        await machine.loop.settle()
        assert machine.loop.failures == {}

    beside(machine, story)


def test_a_stop_that_systemd_refuses_is_tried_again_after_pauses(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the app is left in the end."""
    replica = machine.deployed("a")
    tries: list[str] = []
    stop = machine.systemd.stop

    async def story() -> None:
        await machine.loop.settle()
        monkeypatch.setattr(machine.systemd, "stop", refusing(tries))
        machine.store.want("a", "stopped", 5.0)
        machine.loop.poke()
        await asyncio.sleep(60)
        assert 5 <= len(tries) <= 15
        monkeypatch.setattr(machine.systemd, "stop", stop)
        await until(lambda: machine.active(replica.socket) == "", 10)

    beside(machine, story)


def test_an_app_whose_sleep_was_not_heard_of_sleeps(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection was lost while systemd stopped the service: the app has not failed."""
    replica = machine.deployed("a", scaledown_after_s=30.0)
    machine.runs(replica)
    tries: list[str] = []
    monkeypatch.setattr(machine.systemd, "stop", refusing(tries, machine.systemd.stop))

    async def story() -> None:
        await machine.loop.settle()
        await until(lambda: machine.active(replica.service) == "inactive")
        await asyncio.sleep(100)
        assert state_of(machine.store.app("a"), await machine.loop.facts()) == (AppState.SLEEPING, "")

    beside(machine, story)
    assert tries == [replica.service]
