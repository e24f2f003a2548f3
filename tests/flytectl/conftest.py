"""A stub of the daemon, and a terminal, for the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flytectl import confirm
from tests.flytectl.stub_daemon import Answer, StubDaemon


@pytest.fixture
def stub_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StubDaemon]]:
    """Makes a stub_daemon with given answers and points ``flytectl`` at it."""
    opened: list[StubDaemon] = []

    def make(*answers: bytes | Answer, hold: bool = False, last: bytes = b"") -> StubDaemon:
        path = tmp_path / f"control-{len(opened)}.sock"
        opened.append(StubDaemon(path, answers, hold=hold, last=last))
        monkeypatch.setenv("FLYTED_SOCKET", str(path))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who can be asked."""
    monkeypatch.setattr(confirm, "can_ask", lambda: True)
