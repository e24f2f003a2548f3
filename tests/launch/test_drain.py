"""The proxy is frozen when it is idle, and runs on when nobody can tell whether it is."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.launch import drain, listeners

pytestmark = pytest.mark.slow


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process without a connection, in place of the proxy."""
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """This process can open no file more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)  # the lowest one
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def state(pid: int) -> str:
    """As in proc(5): "T" is a stopped one."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_an_idle_process_is_frozen(process: subprocess.Popen[bytes]) -> None:
    """And goes on when it is told to."""
    assert drain.drain(process.pid, 5)
    assert state(process.pid) == "T"


def test_a_process_that_cannot_be_looked_at_runs_on(process: subprocess.Popen[bytes]) -> None:
    """Nothing would ever let it go on: a client would wait for ever."""
    with no_descriptor_left():
        assert not drain.drain(process.pid, 0.2)
    time.sleep(0.2)  # a signal takes its time
    assert state(process.pid) != "T"


def test_a_process_that_has_ended_is_no_error(process: subprocess.Popen[bytes]) -> None:
    """Dead, or not even that."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not drain.drain(process.pid, 0.2)


def test_connections_that_cannot_be_counted_are_not_none() -> None:
    """The proxy would be frozen in the middle of a request; a port that is looked for is looked for again."""
    with no_descriptor_left():
        assert listeners.listening() == []
        with pytest.raises(OSError, match="Too many open files"):
            listeners.tcp_inodes()


def test_the_main_process_drains_when_it_is_asked(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command of the same unit cannot see the proxy, so it asks; it returns when the proxy is frozen."""
    monkeypatch.setenv("MAINPID", str(os.getpid()))
    drain.offer(process.pid)
    assert drain.drain_unit() == 0
    assert state(process.pid) == "T"


def test_a_unit_without_a_proxy_has_nothing_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that uvicorn serves, or whose main process has ended."""
    begun = time.monotonic()
    monkeypatch.setenv("MAINPID", "1")
    assert drain.drain_unit() == 0
    monkeypatch.delenv("MAINPID")
    assert drain.drain_unit() == 0
    assert time.monotonic() - begun < drain.SECONDS / 2, "nothing was waited for"
