"""The machine's clock, as the kernel tells of it."""

from __future__ import annotations

import asyncio
import ctypes
import re
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from flyted.host.clock import Clock

pytestmark = pytest.mark.slow

ADJ_SETOFFSET, ADJ_NANO = 0x0100, 0x2000
SYS_TIME = 25  # capabilities(7)


class Timex(ctypes.Structure):
    """struct timex, as far as a shift of the clock needs it: adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("before", ctypes.c_long * 8), ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long), ("after", ctypes.c_long * 32),
    )  # fmt: skip


def shift(nanoseconds: int) -> None:
    """Sets the machine's clock, by so little that nobody notices but who has asked to."""
    asked = Timex(modes=ADJ_SETOFFSET | ADJ_NANO, nanoseconds=nanoseconds)
    assert ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked)) >= 0, ctypes.get_errno()


def may_set() -> bool:
    """Whether this process may set the clock."""
    (effective,) = re.findall(r"^CapEff:\s+(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return bool(int(effective, 16) >> SYS_TIME & 1)


class Bell:
    """A timer, and what it rang: whether the clock was set, each time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.heard: list[bool] = []
        self.clock.start(self.heard.append)

    async def rings(self, moment: float | None = None, within_s: float = 0.2) -> list[bool]:
        """What is rung within a fifth of a second."""
        self.heard.clear()
        self.clock.arm(moment)
        end = time.monotonic() + within_s
        while not self.heard and time.monotonic() < end:  # noqa: ASYNC110  the kernel's doing
            await asyncio.sleep(0.005)
        return list(self.heard)

    async def is_silent(self, moment: float | None = None) -> bool:
        """Whether nothing is rung, in one of a few tries: somebody else may set the machine's clock meanwhile."""
        for _ in range(5):
            if not await self.rings(moment):
                return True
        return False


def beside(story: Callable[[Bell], Coroutine[Any, Any, None]]) -> None:
    """Runs a story with a timer."""

    async def main() -> None:
        bell = Bell()
        try:
            await story(bell)
        finally:
            bell.clock.close()

    asyncio.run(main())


def test_it_rings_at_a_moment() -> None:
    """At one that is over at once; without a moment never."""

    async def scene(bell: Bell) -> None:
        assert await bell.is_silent(time.time() + 3600)
        assert await bell.is_silent()
        began = time.time()
        assert await bell.rings(began + 0.1) == [False]
        assert 0.1 <= time.time() - began < 5
        for past in (0.0, -5.0, began - 1e9, began):
            assert await bell.rings(past) == [False]
        assert await bell.is_silent(), "what was rung for is not rung for again"
        assert await bell.rings(began) == [False], "but when it is asked for again"

    beside(scene)


def test_the_last_moment_counts_and_the_same_one_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass names one each time."""

    async def scene(bell: Bell) -> None:
        soon = time.time() + 0.1
        bell.clock.arm(soon)
        assert await bell.is_silent(soon + 3600)
        nothing: Any = None
        monkeypatch.setattr(bell.clock, "_libc", nothing)
        bell.clock.arm(soon + 3600)

    beside(scene)


def test_the_kernel_is_asked_to_tell_when_the_clock_is_set() -> None:
    """The timer is one of the machine's clock, by an absolute time, and cancelled by a change: nothing polls."""

    async def scene(bell: Bell) -> None:
        assert await bell.is_silent()
        told = Path(f"/proc/self/fdinfo/{bell.clock._fd}").read_text()  # noqa: ASYNC240
        assert re.search(r"^clockid: 0$", told, re.MULTILINE)
        assert re.search(r"^settime flags: 03$", told, re.MULTILINE)

    beside(scene)


@pytest.mark.skipif(not may_set(), reason="setting the clock takes CAP_SYS_TIME")
def test_a_clock_that_is_set_is_noticed_at_once() -> None:
    """Again and again, also behind the moment of the timer, and as it is armed."""

    async def scene(bell: Bell) -> None:
        for _ in range(3):
            asyncio.get_running_loop().call_later(0.05, shift, 1)
            assert await bell.rings(time.time() + 3600) == [True]
            assert await bell.is_silent(time.time() + 3600)
        assert await bell.rings(time.time()) == [False]
        bell.heard.clear()
        shift(1)
        await asyncio.sleep(0.05)
        assert bell.heard == [True]
        await bell.rings(time.time() + 3600)
        shift(1)
        assert await bell.rings(time.time() + 7200) == [True]
        assert await bell.is_silent()

    beside(scene)
