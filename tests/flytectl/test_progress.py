"""The clock of a command that waits: on a terminal only, never in the way of a line."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flytectl import progress
from flytectl.progress import FIRST_S, Clock, clocked
from flytectl.times import clock
from flyted.contract import wire
from flyted.contract.answers.events import Event, Progress
from tests.flytectl.stub_daemon import StubDaemon

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


class Screen:
    """A clock with a time of its own, and what it wrote."""

    def __init__(self) -> None:
        self.now, self.stream = 100.0, io.StringIO()
        self.clock = Clock(self.stream, self.show, lambda: self.now)

    def show(self, event: Event) -> None:
        """What a command does with an event."""
        self.stream.write(event.text + "\n")

    def after(self, seconds: float) -> str:
        """What is written by a tick so much later."""
        self.now += seconds
        before = len(self.stream.getvalue())
        self.clock.tick()
        return self.stream.getvalue()[before:]

    def hears(self, kind: str, text: str) -> str:
        """What is written by an event."""
        before = len(self.stream.getvalue())
        self.clock.heard(Progress(kind, text))
        return self.stream.getvalue()[before:]


def test_nothing_of_a_quick_step_and_a_clock_of_a_long_one() -> None:
    """It is one line that is written over."""
    screen = Screen()
    assert screen.after(FIRST_S / 2) == ""
    assert re.fullmatch(r"\r\x1b\[K  [|/\\-] 41 s", screen.after(40.0))
    assert screen.after(60.0).endswith("1:41 min")


def test_a_line_takes_the_clocks_place() -> None:
    """Erased first, so that no rest of it stays; lines of a build do not set it back, the next step does."""
    screen = Screen()
    screen.after(5)
    assert screen.hears("build", "line") == "\r\x1b[Kline\n"
    assert screen.hears("build", "line") == "line\n"
    assert screen.after(1).endswith(" 6 s")
    assert screen.hears("progress", "next") == "\r\x1b[Knext\n"
    assert screen.after(1) == ""
    screen.clock.end()
    assert screen.stream.getvalue().endswith("next\n")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (60, "1:00 min"), (3725, "62:05 min")])
def test_how_a_time_is_told_that_goes_on(seconds: float, text: str) -> None:
    """Seconds, then minutes and seconds."""
    assert clock(seconds) == text


def test_without_a_terminal_events_go_straight_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread, no escape sequence."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    def show(_event: Event) -> None:
        """Never called here."""

    with clocked(show) as heard:
        assert heard is show


def test_on_a_terminal(tmp_path: Path) -> None:
    """The command itself, at a real one: the clock is there while it waits, and gone when Ctrl-C ends it."""
    stub_daemon = StubDaemon(
        tmp_path / "s", [wire.encode({"event": {"kind": "progress", "text": "starting web"}})], hold=True
    )
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flytectl", "app", "start", "web"], stdin=slave, stdout=slave, stderr=slave, cwd=ROOT,
        env={**os.environ, "FLYTED_SOCKET": str(tmp_path / "s"), "TERM": "xterm"}, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    seen, end = b"", time.monotonic() + 30
    while b" 2 s" not in seen and time.monotonic() < end:
        seen += os.read(master, 1000)
    process.send_signal(2)
    while True:
        try:
            seen += os.read(master, 1000)
        except OSError:
            break
    assert process.wait(30) == 130
    stub_daemon.close()
    os.close(master)
    text = seen.decode()
    assert "starting web\r\n" in text
    assert re.search(r"\r\x1b\[K  [|/\\-] 2 s.*\r\x1b\[Kinterrupted: .*app stop web\r", text, re.DOTALL), text


def test_the_clock_is_for_verbs_that_one_waits_for() -> None:
    """A log that is followed has lines of its own on standard output."""
    from flytectl.daemon import INTERRUPTED

    assert "app.serve" in INTERRUPTED
    assert "app.logs" not in INTERRUPTED
    assert progress.TICK_S < FIRST_S
