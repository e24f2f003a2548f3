"""The machine's clock, as the kernel tells of it."""

from __future__ import annotations

import asyncio
import ctypes
import re
import time
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A timer."""
    made = Clock()
    yield made
    made.close()


async def returns(clock: Clock, moment: float | None = None, event: asyncio.Event | None = None) -> bool:
    """Whether a wait is over within a fifth of a second."""
    try:
        await asyncio.wait_for(clock.wait(moment, event), 0.2)
    except TimeoutError:
        return False
    return True


async def waits(clock: Clock, moment: float | None = None) -> bool:
    """Whether a wait lasts, in one of a few tries: somebody else may set the machine's clock meanwhile."""
    for _ in range(5):
        if not await returns(clock, moment):
            return True
    return False


def test_it_waits_for_a_moment(clock: Clock) -> None:
    """One that is over is there at once; without a moment it waits for ever."""

    async def scene() -> None:
        assert await waits(clock, time.time() + 3600)
        assert await waits(clock)
        began = time.time()
        assert await returns(clock, began + 0.1)
        assert 0.1 <= time.time() - began < 5
        for past in (0.0, -5.0, began - 1e9, began):
            assert await returns(clock, past)
        assert await waits(clock), "what was rung for is not rung for again"

    asyncio.run(scene())


def test_an_event_ends_the_wait(clock: Clock) -> None:
    """And leaves nothing behind."""

    async def scene() -> None:
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, event.set)
        assert await returns(clock, event=event)
        await asyncio.sleep(0.01)  # a task that was cancelled ends in one of the next turns of the loop
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scene())


def test_the_kernel_is_asked_to_tell_when_the_clock_is_set(clock: Clock) -> None:
    """The timer is one of the machine's clock, by an absolute time, and cancelled by a change: nothing polls."""

    async def scene() -> None:
        assert await waits(clock)

    asyncio.run(scene())
    told = Path(f"/proc/self/fdinfo/{clock._fd}").read_text()
    assert re.search(r"^clockid: 0$", told, re.MULTILINE)
    assert re.search(r"^settime flags: 03$", told, re.MULTILINE)


@pytest.mark.skipif(not may_set(), reason="setting the clock takes CAP_SYS_TIME")
def test_a_clock_that_is_set_is_noticed_at_once(clock: Clock) -> None:
    """Again and again, and also what happened between two waits."""

    async def scene() -> None:
        for _ in range(3):
            asyncio.get_running_loop().call_later(0.05, shift, 1)
            assert await returns(clock, time.time() + 3600)
            assert await waits(clock, time.time() + 3600)
        shift(1)
        assert await returns(clock)
        assert await waits(clock)

    asyncio.run(scene())
