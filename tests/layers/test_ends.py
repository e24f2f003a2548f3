"""How the program's own processes end: with a status and one line, whatever happened in them."""

from __future__ import annotations

import os
import signal

import pytest

from flyted.layers import enter
from flyted.layers.command import signal_name
from flyted.layers.words import EX_OSERR, EX_SOFTWARE, OURS


def test_a_child_ends_also_by_a_fault_that_nobody_thought_of(capfd: pytest.CaptureFixture[str]) -> None:
    """It never goes on with what its parent was doing."""

    def fault() -> int:
        raise ValueError("unthought of")

    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = enter.settled(fault)
        finally:
            os._exit(status)
    assert enter.status_of(child) == EX_SOFTWARE
    assert capfd.readouterr().out.startswith(f"{OURS}internal error in flyted: ValueError: unthought of (fault, line ")


@pytest.mark.parametrize("name", ["/app/x", b"/app/x"])
def test_a_file_is_named_as_it_is_written(name: str | bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Also one of an archive, whose names are bytes."""

    def refused() -> int:
        raise FileExistsError(17, "File exists", name)

    assert enter.settled(refused) == EX_OSERR
    assert capfd.readouterr().out == f"{OURS}/app/x: File exists\n"


def test_a_signal_without_a_name() -> None:
    assert signal_name(signal.SIGKILL) == "SIGKILL"
    assert signal_name(40) == "signal 40"
