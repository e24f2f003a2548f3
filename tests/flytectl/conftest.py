"""The daemon's border for the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.flytectl.border import Answer, Border


@pytest.fixture
def border(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Border]]:
    """Makes a border with given answers and points ``flytectl`` at it."""
    opened: list[Border] = []

    def make(*answers: bytes | Answer, hold: bool = False, last: bytes = b"") -> Border:
        path = tmp_path / f"control-{len(opened)}.sock"
        opened.append(Border(path, answers, hold=hold, last=last))
        monkeypatch.setenv("FLYTED_SOCKET", str(path))
        return opened[-1]

    yield make
    for each in opened:
        each.close()
