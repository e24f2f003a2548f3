"""A clock that a test sets, on the time of an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LATE_S = 1e-5
"""The times of the loop and of the machine are rounded: it must not be rung a moment too early."""
BEGAN = 1.7e9
"""Seconds since 1970 at the loop's time 0."""


class FakeClock:
    """As ``host.clock.Clock``. ``time()`` returns the seconds since 1970."""

    def __init__(self, time: Callable[[], float]) -> None:
        self.time = time
        self._rang: Callable[[bool], None] = lambda _was_set: None
        self._timer: asyncio.TimerHandle | None = None
        self.armed: list[float | None] = []
        """The moments for which it was armed."""

    def start(self, rang: Callable[[bool], None]) -> None:
        """As host.clock."""
        self._rang = rang

    def arm(self, moment: float | None) -> None:
        """As host.clock."""
        if self._timer is not None and self.armed[-1:] == [moment]:
            return
        self.close()
        self.armed.append(moment)
        if moment is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, moment - self.time()) + LATE_S, self._rings)

    def _rings(self) -> None:
        self._timer, was_set = None, False
        self._rang(was_set)

    def was_set(self) -> None:
        """The kernel says so."""
        self.close()
        was_set = True
        self._rang(was_set)

    def close(self) -> None:
        """As host.clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
