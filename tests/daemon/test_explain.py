"""Which lines of the journal are asked for as an app's log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.errors import HostFailure
from flyted.contract.names import Replica
from flyted.host.journal import Entry
from tests.daemon.event_loop import run
from tests.daemon.fake import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Without apps yet."""
    made = Machine(tmp_path)
    yield made
    made.close()


def asked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The replicas whose lines are read for the log of app "a"."""
    found: list[str] = []

    async def read(units: list[str], /, **_options: Any) -> list[Entry]:
        found.extend(units)
        return []

    monkeypatch.setattr(machine.journal, "read", read)
    run(machine.explain.lines("a", 10))
    return [unit.removeprefix("flyted-app-").removesuffix(".service") for unit in found]


def test_replicas_that_never_were_are_not_asked_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have 64; those that it has had are asked for, also of revisions before."""
    machine.deployed("a", max_replicas=64, concurrency=1)
    assert asked(machine, monkeypatch) == ["a-r1-0"]
    run(machine.execute.start_pair(Replica("a", 1, 2)))
    machine.deployed("a", max_replicas=64, concurrency=1)
    assert asked(machine, monkeypatch) == ["a-r1-2", "a-r1-1", "a-r1-0", "a-r2-0"]


def test_a_full_disk_keeps_no_replica_from_starting(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines are not in the log then."""
    machine.deployed("a", max_replicas=64, concurrency=1)
    replica = Replica("a", 1, 1)

    def begun(_replica: Replica) -> None:
        raise HostFailure("no space left on device")

    monkeypatch.setattr(machine.store, "begun", begun)
    run(machine.execute.start_pair(replica))
    assert machine.active(replica.socket) == "active"
