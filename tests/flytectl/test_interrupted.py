"""Ctrl-C while flyted does what a command waits for: what is said of it is what flyted says."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flytectl import cli
from flytectl.daemon import IF_CANCELLED, INTERRUPTED
from flyted.contract.answers.events import BUILD, START, STEP
from tests.flytectl.stub_daemon import StubDaemon, error, event, result

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PULL, STOP = ("image", "pull", "nginx"), ("app", "stop", "web")
SHOWN = event(kind=STEP, text="pulling")
CANCELLED = error("cancelled", "the client left")
Make = Callable[..., StubDaemon]


def interrupted(stub_daemon: StubDaemon, *words: str) -> tuple[int, str]:
    """The status and the last line of a command that got Ctrl-C once flyted had said all but its last word."""
    with subprocess.Popen(
        [sys.executable, "-m", "flytectl", *words], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"pulling\n"
        assert stub_daemon.asked.wait(30)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    return process.returncode, said.decode().strip().rpartition("\n")[2]


@pytest.mark.parametrize(
    ("said", "last", "words"),
    [
        (b"", CANCELLED, IF_CANCELLED),
        (b"", event(kind=BUILD, text="a last line") + CANCELLED, IF_CANCELLED),
        (
            event(kind=BUILD, text="half a line")[:9],
            event(kind=BUILD, text="half a line")[9:] + CANCELLED,
            IF_CANCELLED,
        ),
        (event(kind=START, text="starting web"), CANCELLED, INTERRUPTED),
        (b"", event(kind=START, text="starting web"), INTERRUPTED),
        (b"", result(name="n", digest="d", hash="h", layers=1, bytes=1), INTERRUPTED),
        (b"", error("build-failed", "no such tag"), INTERRUPTED),
        (b"", b"\0\0\0\5\xc1\xc1\xc1\xc1\xc1", INTERRUPTED),
        (b"", b"", INTERRUPTED),
    ],
    ids=["cancelled", "after a line", "in a frame", "had begun", "begins", "done", "failed", "nonsense", "no word"],
)
def test_ctrl_c_says_what_became_of_it(stub_daemon: Make, said: bytes, last: bytes, words: dict[str, str]) -> None:
    """Cancelled, or continuing; where flyted says nothing, that it may."""
    asked = stub_daemon(SHOWN, said, hold=True, last=last)
    assert interrupted(asked, *PULL) == (cli.INTERRUPTED, f"interrupted: {words['image.pull']}")


def test_what_is_not_cancelled_is_not_waited_for(stub_daemon: Make) -> None:
    """A stop goes on, and a word of flyted's would not change that."""
    asked = stub_daemon(SHOWN, hold=True, last=CANCELLED)
    assert interrupted(asked, *STOP) == (cli.INTERRUPTED, f"interrupted: {INTERRUPTED['app.stop']}")


def test_each_verb_that_is_cancelled_may_also_go_on() -> None:
    """Both are said, and each of them has a clock."""
    assert IF_CANCELLED.keys() < INTERRUPTED.keys()
    assert {"app.serve", "image.build", "image.pull", "image.rebuild"} == IF_CANCELLED.keys()
