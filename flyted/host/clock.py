"""Reads the machine's clock, and calls back at a moment, and when the clock is set (timerfd_create(2)).

The process does not wake up in between. Python has these calls from 3.13 on; Debian 12 has 3.11.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import time
from collections.abc import Callable

_REALTIME = 0
_ABSOLUTE, _CANCEL_ON_SET = 1, 2
_NEVER = float((1 << 33) - 1)  # seconds since 1970


class _Spec(ctypes.Structure):
    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))  # struct itimerspec


class Clock:
    """One timer. From the first :meth:`arm` on it notices when the clock is set, expired or not."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._armed: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rang: Callable[[bool], None] = lambda _was_set: None

    @staticmethod
    def time() -> float:
        """Return the seconds since 1970."""
        return time.time()

    def start(self, rang: Callable[[bool], None]) -> None:
        """Call ``rang`` at each moment that :meth:`arm` sets, and when the clock was set: then with ``True``."""
        self._rang = rang
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def arm(self, moment: float | None) -> None:
        """Set the timer to ``moment`` (seconds since 1970) instead of the moment of the last call; ``None``: stop it.

        It costs nothing if the moment is the same.
        """
        moment = _NEVER if moment is None else moment
        if moment == self._armed:
            return
        self._armed = moment
        whole = int(max(moment, 0.0))
        value = (ctypes.c_long * 2)(whole, max(1, int((moment - whole) * 1e9)))  # 0 and 0 would disarm it
        spec = _Spec((ctypes.c_long * 2)(0, 0), value)
        flags = _ABSOLUTE | _CANCEL_ON_SET
        if self._libc.timerfd_settime(self._fd, flags, ctypes.byref(spec), None) == 0:
            return
        if ctypes.get_errno() != errno.ECANCELED:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        asyncio.get_running_loop().call_soon(self._was_set)  # in between; the timer is armed

    def close(self) -> None:
        """Close the timer."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _was_set(self) -> None:
        was_set = True
        self._rang(was_set)

    def _read(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was armed again meanwhile
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            was_set = True
        else:
            was_set = False
        self._armed = None
        self._rang(was_set)
