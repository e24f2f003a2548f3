"""What apps keep is watched: at their rest, now and then while they run, at no other time, and only if they ask."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flyted.contract.answers.apps import AppFolder
from flyted.contract.errors import HostFailure
from flyted.daemon.apps.disk_watch import AGAIN_S, DiskWatch
from flyted.daemon.listeners import Listeners
from flyted.host.store import Store
from flyted.plan.disk import over
from flyted.plan.facts import ImageFact
from flyted.plan.unit_index import UnitFact, UnitIndex
from tests.values import spec

MIB = 1 << 20


class Machine:
    """Apps that run and keep something; it hears what is counted."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "db")
        self.now = 0.0
        self.keeps: dict[str, int] = {}
        self.asked: list[str] = []
        self.counted: Any = None
        self.listeners = Listeners()
        nothing: Any = self
        self.watch = DiskWatch(nothing, self.store, nothing, lambda: self.now)

    def forget(self, _app_id: str) -> None:
        """As daemon.apps.data."""

    async def of(self, app_id: str) -> AppFolder:
        """As daemon.apps.data."""
        self.asked.append(app_id)
        if app_id == "broken":
            raise HostFailure("it could not be counted")
        found = AppFolder("/x", self.keeps[app_id], 1, 0, complete=True)
        self.counted(app_id, found)
        return found

    def serves(self, name: str, disk: int) -> None:
        """An app."""
        number = self.store.add_revision(spec(name, disk_bytes=disk), ImageFact("/i"), "f", 1.0)
        self.store.serve(name, number, 1.0)
        self.keeps.setdefault(name, 0)

    def passes(self, *running: str) -> list[str]:
        """A pass with these apps running; whose files were counted after it."""
        units = [UnitFact(f"flyted-app-{name}-r1-0.service", "loaded", "active", "running") for name in running]
        self.asked = []

        async def story() -> None:
            done: Any = SimpleNamespace(facts=SimpleNamespace(index=UnitIndex(units)))
            self.listeners.tell(done)
            for _ in range(10):
                await asyncio.sleep(0)

        asyncio.run(story())
        return self.asked


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """With an app that asks for a mebibyte, and one that asks for nothing."""
    made = Machine(tmp_path)
    made.serves("asks", MIB)
    made.serves("other", 0)
    return made


def test_files_are_counted_while_an_app_runs_and_when_it_rests(machine: Machine) -> None:
    """Not at each pass, and never while it sleeps."""
    assert machine.passes("asks", "other") == ["asks"]
    assert machine.passes("asks", "other") == []
    machine.now += AGAIN_S
    assert machine.passes("asks", "other") == ["asks"]
    assert machine.passes("other") == ["asks"]
    machine.now += 10 * AGAIN_S
    assert machine.passes() == []


def test_an_app_that_keeps_more_is_named_until_it_keeps_less(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """Once in the log, and for as long as it lasts with the app."""
    caplog.set_level(logging.WARNING)
    machine.passes("asks")
    assert machine.watch.note("asks") == ""
    machine.keeps["asks"] = 3 * MIB
    for _ in range(3):
        machine.now += AGAIN_S
        machine.passes("asks")
    assert machine.watch.note("asks") == "it keeps 3.0 MiB, more than the 1.0 MiB of resources.disk"
    assert len(caplog.records) == 1
    machine.serves("asks", 5 * MIB)
    machine.passes()
    assert machine.watch.note("asks") == ""
    assert machine.watch.note("other") == machine.watch.note("gone") == ""


def test_what_cannot_be_counted_keeps_nothing_else_from_it(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged."""
    caplog.set_level(logging.WARNING)
    machine.serves("broken", MIB)
    assert sorted(machine.passes("asks", "broken")) == ["asks", "broken"]
    assert [record.message for record in caplog.records] == ["it could not be counted"]
    machine.now += AGAIN_S
    assert "asks" in machine.passes("asks", "broken")


def test_more_is_more() -> None:
    """To the byte."""
    assert over(MIB, MIB) == over(0, MIB) == ""
    assert over(MIB, MIB + 1)
