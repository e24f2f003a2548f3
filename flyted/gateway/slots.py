"""Bounds what the gateway does for many users at once; they share it as they do in flyted (plan/crowd.py)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from flyted.plan.crowd import Room, may_have, may_hold, next_of


class Slots:
    """The slots of one limit, and the waiting users."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._taken: dict[int, int] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

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
        self._waiting.append((user, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it got the slot before it was cancelled
                self._leave(user)
            raise

    def _leave(self, user: int) -> None:
        self._taken[user] -= 1
        if not self._taken[user]:
            del self._taken[user]
        self._admit()

    def _admit(self) -> None:
        self._waiting = [(user, turn) for user, turn in self._waiting if not turn.done()]
        while (index := next_of([user for user, _ in self._waiting], self._taken, self._room)) is not None:
            user, turn = self._waiting.pop(index)
            self._taken[user] = self._taken.get(user, 0) + 1
            turn.set_result(None)


class Memory:
    """The bytes of memory that requests take, shared by their users as in flyted. ``most``: of all together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[int, int] = {}

    def hold(self, user: int, size: int) -> bool:
        """Count ``size`` more bytes for the user, and return True; count nothing, and return False, for too much."""
        if not may_hold(self._held, user, size, self._most):
            return False
        self._held[user] = self._held.get(user, 0) + size
        return True

    def release(self, user: int, size: int) -> None:
        """Count ``size`` bytes less for the user."""
        left = self._held.pop(user, 0) - size
        if left:
            self._held[user] = left
