"""Shows a clock below the last line of a command that waits, on a terminal only; the next line replaces it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from flytectl.times import clock
from flyted.contract.answers.events import START, STEP, Event

OnEvent = Callable[[Event], None]
TICK_S, FIRST_S = 0.25, 2.0
_TURNS = "|/-\\"
_ERASE = "\r\x1b[K"


class Clock:
    """The clock, which passes events on, and shows between them the time since the last ``progress`` event."""

    def __init__(self, stream: TextIO, on_event: OnEvent, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._on_event, self._now = stream, on_event, now
        self._begun = now()
        self._shown = 0
        self._lock = threading.Lock()

    def heard(self, event: Event) -> None:
        """Erase the clock, and pass the event on."""
        with self._lock:
            self._erase()
            if event.kind in (STEP, START):
                self._begun = self._now()
            self._on_event(event)

    def tick(self) -> None:
        """Show the current time of the clock, from ``FIRST_S`` seconds on."""
        with self._lock:
            passed = self._now() - self._begun
            if passed >= FIRST_S:
                self._shown += 1
                self._stream.write(f"{_ERASE}  {_TURNS[self._shown % len(_TURNS)]} {clock(passed)}")
                self._stream.flush()

    def end(self) -> None:
        """Erase the clock, at the end of the command."""
        with self._lock:
            self._erase()

    def _erase(self) -> None:
        if self._shown:
            self._shown = 0
            self._stream.write(_ERASE)
            self._stream.flush()


@contextlib.contextmanager
def clocked(on_event: OnEvent | None) -> Iterator[OnEvent | None]:
    """Yield the function to call with events while the clock runs; ``on_event`` itself without a terminal."""
    if on_event is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield on_event
        return
    shown, over = Clock(sys.stderr, on_event), threading.Event()
    ticking = threading.Thread(target=_run, args=(shown, over), daemon=True)
    ticking.start()
    try:
        yield shown.heard
    finally:
        over.set()
        ticking.join()
        shown.end()


def _run(shown: Clock, over: threading.Event) -> None:
    while not over.wait(TICK_S):
        shown.tick()
