"""The gateway's places: who waits, and for whom."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flyted.contract import wire
from flyted.contract.answers.machine import Done
from flyted.daemon.api.control import MAX_API
from flyted.gateway import slots
from flyted.gateway.caller import Caller, enter
from flyted.gateway.daemon import LONG, SHORT, Daemon
from flyted.gateway.slots import Slots
from flyted.plan.crowd import Room, next_of

pytestmark = pytest.mark.slow

ROOM = Room(users=3, shared=1, of_a_user=2)


class Crowd:
    """Users with places, and others who wait for one."""

    def __init__(self, room: Room = ROOM) -> None:
        self.places = Slots(room)
        self.inside: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def come(self, name: str) -> None:
        """Wants a place for the user in the name's first letter."""
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._stay(name))
        await self.settled()

    async def _stay(self, name: str) -> None:
        async with self.places.slot(ord(name[0])):
            self.inside.append(name)
            await self._ends[name].wait()
        self.inside.remove(name)

    def leave_soon(self, name: str) -> None:
        """Gives its place back as soon as it runs."""
        self._ends[name].set()

    async def leave(self, name: str) -> None:
        """Gives its place back."""
        self.leave_soon(name)
        await self.settled()

    async def cancel(self, name: str) -> None:
        """Its client has gone."""
        self._tasks[name].cancel()
        await self.settled()

    @staticmethod
    async def settled() -> None:
        """All that can go on has gone on."""
        for _ in range(10):
            await asyncio.sleep(0)


def test_a_user_who_has_none_waits_for_nobody() -> None:
    """However many another wants; and of those who wait, the one with the fewest is next."""

    async def scene() -> None:
        crowd = Crowd()
        for name in ("a1", "a2", "a3", "a4", "b1"):
            await crowd.come(name)
        assert crowd.inside == ["a1", "a2", "b1"]
        await crowd.come("b2")
        await crowd.leave("a1")
        assert crowd.inside == ["a2", "b1", "a3"], "each has as much as is left for the next"
        await crowd.leave("b1")
        assert crowd.inside == ["a2", "a3", "b2"]

    asyncio.run(scene())


def test_who_leaves_while_waiting_takes_nothing_along() -> None:
    """Neither a place in the line, nor the place that came in the same moment."""

    async def scene() -> None:
        crowd = Crowd(Room(users=1, shared=0, of_a_user=1))
        for name in ("a1", "b1", "c1"):
            await crowd.come(name)
        crowd.leave_soon("a1")
        await crowd.cancel("b1")
        crowd.leave_soon("c1")
        await crowd.come("d1")
        assert crowd.inside == ["d1"]
        await crowd.come("e1")
        crowd.leave_soon("d1")
        await asyncio.sleep(0)  # it has left, and e1 was let in, but does not know yet
        await crowd.cancel("e1")
        await crowd.come("d1")
        assert crowd.inside == ["d1"]

    asyncio.run(scene())


def test_who_waits_long_does_not_slow_the_others_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each user only the first in line is looked at, however many wait; who leaves the line is forgotten."""
    looked_at: list[int] = []

    def counted(waiting: list[int], *more: Any) -> int | None:
        looked_at.append(len(waiting))
        return next_of(waiting, *more)

    monkeypatch.setattr(slots, "next_of", counted)

    async def scene() -> None:
        crowd = Crowd(Room(users=1, shared=0, of_a_user=1))
        await crowd.come("a0")
        for number in range(1, 50):
            await crowd.come(f"a{number}")
        await crowd.come("b1")
        for number in range(2, 50):
            await crowd.cancel(f"a{number}")
        assert max(looked_at) == 2
        assert {user: len(turns) for user, turns in crowd.places._waiting.items()} == {ord("a"): 1, ord("b"): 1}
        await crowd.leave("a0")
        assert crowd.inside == ["a1"]
        await crowd.leave("a1")
        assert crowd.inside == ["b1"]
        await crowd.leave("b1")
        assert crowd.places._waiting == {}

    asyncio.run(scene())


def test_a_token_of_roots_takes_no_more_memory_than_others() -> None:
    """Flyted's own memory is root's; the gateway's is limited by its unit."""
    memory = slots.Memory(100)
    assert memory.hold(0, 50)
    assert not memory.hold(0, 1), "as much as is left for the next"
    assert memory.hold(1000, 25)
    memory.release(0, 50)
    assert memory.hold(0, 30)


def test_flyted_has_a_connection_for_each_of_the_gateways_places() -> None:
    """Otherwise who got a place here is refused there."""
    assert LONG.most + SHORT.most <= MAX_API


def test_a_build_that_never_stops_to_print_leaves_others_their_turn(tmp_path: Path) -> None:
    """Its lines wait in the socket, and reading them takes no pause of itself."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = wire.encode({"event": {"kind": "build", "text": "x"}})
        writer.write(line * 500 + wire.encode({"result": {}}))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def scene() -> None:
        enter(Caller())
        server = await asyncio.start_unix_server(talk, tmp_path / "socket")
        turns, heard = 0, set()

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        daemon = Daemon(tmp_path / "socket")
        await daemon.call(Done, "image.build", on_event=lambda _event: heard.add(turns))
        task.cancel()
        server.close()
        await server.wait_closed()
        assert len(heard) == 500

    asyncio.run(scene())
