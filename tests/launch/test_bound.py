"""What an app may print, and what is said of the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flyted.launch.bound import BURST, KEPT, RATE, Bound
from flyted.plan.units import LOG_BURST, LOG_INTERVAL_S

pytestmark = pytest.mark.slow


class Clock:
    """A clock that stands still until it is told to go on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_below_the_bound_all_goes_on_as_it_is() -> None:
    """Half lines too: a progress bar."""
    bound = Bound(Clock())
    assert bound.passes(b"a\nb") == b"a\nb"
    assert bound.passes(b"c\n") == b"c\n"
    assert bound.rest() == b""


def test_above_it_lines_are_dropped_counted_and_the_last_ones_kept() -> None:
    """The reason of a failure comes last, after however many lines."""
    clock = Clock()
    bound = Bound(clock)
    printed = b"".join(b"loading shard %d\n" % n for n in range(150_000)) + b"RuntimeError: the real reason\n"
    passed = bound.passes(printed)
    assert passed.count(b"\n") == BURST
    rest = bound.rest().splitlines()
    assert rest[-1] == b"RuntimeError: the real reason"
    assert len(rest) == KEPT + 1
    assert rest[0].startswith(b"flyted: %d lines of output were dropped" % (150_001 - BURST - KEPT))
    assert bound.rest() == b"", "it is told once"


def test_it_recovers_and_tells_the_gap_where_it_was() -> None:
    """Before the next line that goes on; a trickle during the flood does not reset it."""
    clock = Clock()
    bound = Bound(clock)
    bound.passes(b"x\n" * (BURST + 100))
    clock.now = 0.5
    assert bound.passes(b"still too fast\n") == b""
    clock.now = 2.0
    told = bound.passes(b"on\n")
    assert b"51 lines of output were dropped" in told
    assert told.endswith(b"still too fast\non\n")


def test_few_long_lines_count_by_their_length() -> None:
    """A line of the journal may have 48 KiB: the bound is one of room, too."""
    bound = Bound(Clock())
    line = b"y" * 1024 * 1024 + b"\n"
    passed = sum(bool(bound.passes(line)) for _ in range(100))
    assert passed == BURST // 1025


def test_journald_never_drops_a_line_before_launch_does() -> None:
    """Its limit would do so without a word."""
    assert BURST + LOG_INTERVAL_S * RATE < LOG_BURST


def test_the_streams_of_an_app_in_this_process_are_bounded() -> None:
    """The end of what it prints is there, in order, and a child process can go on printing."""
    code = """
import os, sys
sys.path.insert(0, {root!r})
from flyted.launch.output import Output
output = Output(); output.install()
for n in range(60000): print("shard", n)
pid = os.fork()
if pid == 0:
    sys.stdout.write("child\\n"); os._exit(0)
os.waitpid(pid, 0)
print("reason", file=sys.stderr); output.finish()
"""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code.format(root=root)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0] == b"shard 0"
    assert lines[-1] == b"reason"
    assert any(b"lines of output were dropped" in line for line in lines)
    assert len(lines) < BURST + RATE * 20 + KEPT
