"""Holds the events for one client until it has read them, so that work which others share does not wait for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from flyted.base import tasks
from flyted.contract import wire
from flyted.contract.answers.events import NOTE, Progress

MOST_BYTES = 1 << 20
"""The most that is held for a client that is behind; one frame may be longer."""
PATIENCE_S = 30.0
"""How long in all those who add frames wait for a client that is behind, before they leave some out for it."""


class ClientGone(Exception):
    """The client has closed its side, or does not read."""


class Patience:
    """The time that many waits may take together: :data:`PATIENCE_S`."""

    def __init__(self) -> None:
        self._left_s = PATIENCE_S

    async def wait(self, end: Awaitable[object]) -> None:
        """Wait for ``end`` as long as time is left. It is cancelled then."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._left_s):
                await end
        except TimeoutError:
            pass
        finally:
            self._left_s = max(0.0, self._left_s - (loop.time() - began))


class Outbox:
    """The frames for a client, sent in order by a task that runs while there are some.

    ``send``: sends one, and raises :class:`ClientGone` for a client that is gone.
    """

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._send = send
        self._frames: deque[bytes] = deque()
        self._held = self._left_out = 0
        self._patience = Patience()
        self._less = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._gone = False

    async def put(self, frame: bytes) -> None:
        """Have a frame sent after those before it; nothing happens for a client that is gone.

        While :data:`MOST_BYTES` are held, this waits for the client, :data:`PATIENCE_S` in total. After that, frames
        for which there is no room are left out, and the client is told how many; so is a frame whose caller is
        cancelled while this waits.
        """
        if not self._fits(frame):
            try:
                await self._patience.wait(self._room(frame))
            except asyncio.CancelledError:
                self._left_out += 1
                raise
        if not self._fits(frame):
            self._left_out += 1
            return
        self._tell_of_gap()
        self._add(frame)

    async def sent(self) -> None:
        """Return when the client has read all frames. Raises :class:`ClientGone`."""
        self._tell_of_gap()
        if self._sending is not None:
            await asyncio.wait([self._sending])
        if self._gone:
            raise ClientGone

    def close(self) -> None:
        """Send nothing any more."""
        self._gone = True
        if self._sending is not None:
            self._sending.cancel()

    def _fits(self, frame: bytes) -> bool:
        return not self._held or self._held + len(frame) <= MOST_BYTES

    async def _room(self, frame: bytes) -> None:
        """Return when there is room."""
        while not self._fits(frame):
            self._less.clear()
            await self._less.wait()

    def _tell_of_gap(self) -> None:
        if self._left_out:
            text = f"{self._left_out} lines are left out here: they came faster than they were read"
            self._left_out = 0
            self._add(wire.encode({"event": Progress(NOTE, text)}))

    def _add(self, frame: bytes) -> None:
        if self._gone:
            return
        self._frames.append(frame)
        self._held += len(frame)
        if self._sending is None or self._sending.done():
            self._sending = tasks.begin(self._run())

    async def _run(self) -> None:
        try:
            while self._frames:
                await self._send(self._frames[0])
                self._held -= len(self._frames.popleft())
                self._less.set()
        except ClientGone:
            self._gone = True
            self._frames.clear()
            self._held = 0
            self._less.set()
