"""Units that are cleaned up whatever happens, and the folders of an app without a unit."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.launch.harness import App, Unit
from tests.launch.workdirs import Machine


@pytest.fixture
def make_unit(tmp_path: Path) -> Iterator[Callable[..., Unit]]:
    """Makes the unit of this test."""
    units: list[Unit] = []

    def make(**fields: Any) -> Unit:
        folder = tmp_path / f"unit{len(units)}"
        folder.mkdir()
        units.append(Unit(folder, **fields))
        return units[-1]

    yield make
    for unit in units:
        unit.close()


@pytest.fixture
def running() -> Iterator[Callable[[App], App]]:
    """Takes care of a started app."""
    apps: list[App] = []

    def keep(app: App) -> App:
        apps.append(app)
        return app

    yield keep
    for app in apps:
        app.kill()


@pytest.fixture
def port() -> int:
    """A port that nobody has: here there is no network namespace."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def stay_here() -> Iterator[None]:
    """`enter` changes the working folder."""
    before = Path.cwd()
    yield
    os.chdir(before)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One app's folders."""
    return Machine(tmp_path)
