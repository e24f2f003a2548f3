"""How much an app may print: a bound of its own in place of journald's, which drops lines without a word.

An app that prints in a loop would drive the lines of all others out of the journal. Above the bound its lines are
dropped and counted, the count is printed, and the last lines come through in any case: they say why an app ended.
journald.conf(5), RateLimitBurst=, is set above this bound (plan/units.py: LOG_BURST), so it never comes first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from .closed import Closed

BURST = 20_000
"""Lines at once."""
RATE = 1_000
"""Lines a second, over a longer time."""
KEPT = 50
"""The last lines, which are never lost."""
_LINE = 1024  # bytes; a longer line counts as several
_MEMORY = 65_536  # bytes of each line that is kept


class Bound:
    """Takes whole lines, and gives those that may go on. Safe for several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._room, self._since = float(BURST), clock()
        self._dropped = 0
        self._last: deque[bytes] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._closed = Closed()

    def passes(self, text: bytes) -> bytes:
        """Returns what of ``text`` may be printed now; the rest is dropped, but for the last lines.

        A hint of ours may follow (``closed.py``).
        """
        with self._lock:
            passed = self._passed(text)
            return passed + self._closed.after(passed)

    def rest(self) -> bytes:
        """How many lines were dropped, and the last of them: for an app that ends."""
        with self._lock:
            told = b"".join(self._told())
            return told + self._closed.after(told)

    def renew(self) -> None:
        """Makes it usable in a child process, which another thread's lock came along to (os.register_at_fork)."""
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
        """The words on what was dropped, once, and the last lines."""
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
