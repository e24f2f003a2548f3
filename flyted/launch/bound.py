"""Limits how much an app may print, in place of journald's own limit, which drops lines without a note in the log.

An app that prints in a loop would push the lines of all other apps out of the journal. Above the limit its lines are
dropped and counted, the count is printed, and the last lines are printed in any case: they say why an app ended.
journald's own limit (journald.conf(5): RateLimitBurst=) is set higher (plan/units.py: LOG_BURST), so that it is never
reached first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from .closed import Closed

BURST = 20_000
"""Lines that may be printed at once."""
RATE = 1_000
"""Lines per second that may be printed over a longer time."""
KEPT = 50
"""How many of the last lines are never lost."""
_LINE = 1024  # bytes; a longer line counts as several
_MEMORY = 65_536  # bytes of a line that are kept in memory


class Bound:
    """A rate limiter of lines. Safe for several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._room, self._since = float(BURST), clock()
        self._dropped = 0
        self._last: deque[bytes] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._closed = Closed()

    def passes(self, text: bytes) -> bytes:
        """Return the part of ``text`` (whole lines) that may be printed now; drop the rest, but keep the last lines.

        A hint of flyted's may follow the text (``closed.py``).
        """
        with self._lock:
            passed = self._passed(text)
            return passed + self._closed.after(passed)

    def rest(self) -> bytes:
        """Return a line with the number of dropped lines, and the last lines, to be printed when the app ends."""
        with self._lock:
            told = b"".join(self._told())
            return told + self._closed.after(told)

    def renew(self) -> None:
        """Replace the lock in a child process, in which another thread's hold on it would never end.

        For ``os.register_at_fork``.
        """
        self._lock = threading.Lock()

    def _passed(self, text: bytes) -> bytes:
        now = self._clock()
        self._room = min(BURST, self._room + (now - self._since) * RATE)
        self._since = now
        cost = text.count(b"\n") + len(text) // _LINE
        if cost <= self._room and (not self._dropped or self._room >= RATE):
            self._room -= cost
            return b"".join(self._told()) + text
        return self._part(text)

    def _part(self, text: bytes) -> bytes:
        passed = []
        for line in text.splitlines(keepends=True):
            cost = 1 + len(line) // _LINE
            if not self._dropped and cost <= self._room:
                self._room -= cost
                passed.append(line)
            else:
                self._dropped += 1
                self._last.append(line[:_MEMORY] if len(line) <= _MEMORY else line[:_MEMORY] + b"\n")
        return b"".join(passed)

    def _told(self) -> Iterator[bytes]:
        """Yield the line with the number of dropped lines, if any, and the last lines; forget them."""
        lost = self._dropped - len(self._last)
        if lost > 0:
            yield b"flyted: %d lines of output were dropped: more than %d at once and %d a second\n" % (
                lost,
                BURST,
                RATE,
            )
        yield from self._last
        self._dropped = 0
        self._last.clear()
