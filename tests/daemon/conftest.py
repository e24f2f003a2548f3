from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.fake import Machine
from tests.daemon.life import Life
from tests.daemon.token_harness import BothSockets, Box


@pytest.fixture(autouse=True)
def _no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk: what a crash of the machine leaves is tested in tests/host and in the machine."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine without apps."""
    found = Machine(tmp_path)
    yield found
    found.close()


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    """A machine without apps, on which flyted runs."""
    found = Life(tmp_path, monkeypatch)
    yield found
    found.close()


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """Two members, two apps, no token."""
    made = Box(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Box, BothSockets]]:
    """The sockets, and what is behind them. SQLite's connection is used by the thread only."""
    connect: Any = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, check_same_thread=False))
    box = Box(tmp_path, monkeypatch)
    running = BothSockets(box)
    yield box, running
    running.stop()
    box.close()
