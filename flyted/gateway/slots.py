"""Bounds what the gateway does for many users at once; they share it as they do in flyted (plan/crowd.py)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator

from flyted.plan.crowd import Room, may_have, may_hold, next_of


class Slots:
    """The slots of one limit, and the waiting users. An admission looks at users, and not at all who wait."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._taken: dict[int, int] = {}
        self._arrivals = itertools.count()
        self._waiting: dict[int, OrderedDict[int, asyncio.Future[None]]] = {}  # user → the turns by arrival

    def free(self, user: int) -> bool:
        """Report whether the user may have one more slot now."""
        return may_have(self._taken, user, self._room)

    @contextlib.asynccontextmanager
    async def slot(self, user: int) -> AsyncIterator[None]:
        """Hold a slot for the user during the block; wait until there is one."""
        await self._enter(user)
        try:
            yield
        finally:
            self._leave(user)

    async def _enter(self, user: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        arrival = next(self._arrivals)
        self._waiting.setdefault(user, OrderedDict())[arrival] = turn
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._take(user, arrival)
            else:  # it got the slot before it was cancelled
                self._leave(user)
            raise

    def _leave(self, user: int) -> None:
        self._taken[user] -= 1
        if not self._taken[user]:
            del self._taken[user]
        self._admit()

    def _take(self, user: int, arrival: int) -> asyncio.Future[None] | None:
        """Take a turn out of the line and return it, if it is still there."""
        turns = self._waiting.get(user, OrderedDict())
        turn = turns.pop(arrival, None)
        if turn is not None and not turns:
            del self._waiting[user]
        return turn

    def _admit(self) -> None:
        while True:
            first = sorted((next(iter(turns)), user) for user, turns in self._waiting.items())
            index = next_of([user for _arrival, user in first], self._taken, self._room)
            if index is None:
                return
            arrival, user = first[index]
            turn = self._take(user, arrival)
            if turn is not None and not turn.done():  # else its client has left, and does not know yet
                self._taken[user] = self._taken.get(user, 0) + 1
                turn.set_result(None)


class Memory:
    """The bytes of memory that requests take, shared by their users as in flyted. ``most``: of all together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[int, int] = {}

    def hold(self, user: int, size: int) -> bool:
        """Return whether the user may take ``size`` bytes more; if so, they are counted.

        A token of root's has no more rights to the gateway's memory than others.
        """
        if not may_hold(self._held, user, size, self._most, exempt=None):
            return False
        self._held[user] = self._held.get(user, 0) + size
        return True

    def release(self, user: int, size: int) -> None:
        """Count ``size`` bytes less for the user."""
        left = self._held.pop(user, 0) - size
        if left:
            self._held[user] = left
