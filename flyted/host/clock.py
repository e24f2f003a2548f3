"""The machine's clock: waits for a moment, and notices at once when the clock is set (timerfd_create(2)).

The process does not wake up in between. Python has these calls from 3.13 on; Debian 12 has 3.11.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os

_REALTIME = 0
_ABSOLUTE, _CANCEL_ON_SET = 1, 2
_NEVER = float((1 << 33) - 1)  # seconds since 1970


class _Spec(ctypes.Structure):
    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))  # struct itimerspec


class Clock:
    """One timer. If the clock is set between two waits, the second one returns at once."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    async def wait(self, moment: float | None = None, event: asyncio.Event | None = None) -> None:
        """Wait for ``moment`` (seconds since 1970), ``event`` or the clock to be set, whichever comes first."""
        if not self._arm(_NEVER if moment is None else moment):
            return
        loop = asyncio.get_running_loop()
        rang = asyncio.Event()
        loop.add_reader(self._fd, rang.set)
        waits = [asyncio.ensure_future(each.wait()) for each in (rang, event) if each is not None]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self._fd)
            for task in waits:
                task.cancel()
        with contextlib.suppress(OSError):
            os.read(self._fd, 8)  # EAGAIN: it was the event; ECANCELED: the clock was set

    def close(self) -> None:
        """Close the timer."""
        os.close(self._fd)

    def _arm(self, moment: float) -> bool:
        """Set the timer, and report whether there is something to wait for: not if the clock was set meanwhile."""
        whole = int(max(moment, 0.0))
        value = (ctypes.c_long * 2)(whole, max(1, int((moment - whole) * 1e9)))  # 0 and 0 would disarm it
        spec = _Spec((ctypes.c_long * 2)(0, 0), value)
        flags = _ABSOLUTE | _CANCEL_ON_SET
        if self._libc.timerfd_settime(self._fd, flags, ctypes.byref(spec), None) == 0:
            return True
        if ctypes.get_errno() != errno.ECANCELED:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        return False
