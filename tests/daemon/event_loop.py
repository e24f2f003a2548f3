"""An event loop with a clock of its own.

While nobody has anything to do the clock jumps to the next timer, so an hour takes milliseconds.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
REAL_WAIT_S = 5.0
"""For threads and child processes, which know no other clock."""


class _Skipping(selectors.DefaultSelector):
    """Waits for nothing that only time brings: it moves the clock instead."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; else the time goes on to the next timer."""
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or (super().select(REAL_WAIT_S) if timeout is None else [])
        self.now += timeout
        return []


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is its own."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)
        self._clock_resolution = 1e-6  # asyncio's own is lost in the rounding after some months
        self.unhandled: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _loop, context: self.unhandled.append(context))

    def time(self) -> float:
        """Seconds of its clock."""
        return self._skipping.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs ``main`` to its end on such a loop; no task of it may have died unheard."""
    loop = EventLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        assert loop.unhandled == []
