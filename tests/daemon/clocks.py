"""A clock that a test sets."""

from __future__ import annotations

import asyncio

import pytest

from flyted.host.clock import Clock


class SettableClock(Clock):
    """The machine's, which says that it was set when a test has done so; ``waits``: what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self._was_set = asyncio.Event()

    async def wait(self, moment: float | None = None, event: asyncio.Event | None = None) -> None:
        """As the real one."""
        self.waits.append(moment)
        waits = [asyncio.ensure_future(super().wait(moment, event)), asyncio.ensure_future(self._was_set.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        self._was_set.clear()

    async def set_to(self, monkeypatch: pytest.MonkeyPatch, now: float) -> None:
        """It is ``now`` from here on. Returns when who waited has looked, and waits again."""
        await self.waited()
        count = len(self.waits)
        monkeypatch.setattr("time.time", lambda: now)
        self._was_set.set()
        await self.waited(count + 1)

    async def waited(self, count: int = 1) -> None:
        """Returns when it was waited for so often."""
        async with asyncio.timeout(10):
            while len(self.waits) < count:  # noqa: ASYNC110  another task's doing
                await asyncio.sleep(0.001)
