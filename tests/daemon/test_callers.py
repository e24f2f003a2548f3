"""The addresses of apps that call others: given before an app starts, and never to two at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from flyted.contract.names import EGRESS_UNIT, Replica
from flyted.daemon.apps.callers import Callers
from flyted.plan.calls import ROUTES
from flyted.plan.facts import Facts
from tests import values
from tests.daemon.fake import Machine, alone, beside, until


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with two apps that call others, and one that calls none."""
    made = alone(tmp_path, monkeypatch, "llm")
    made.deployed("ui", calls=("llm",))
    made.deployed("batch", calls=("llm",), egress=False)
    return made


def known(machine: Machine) -> dict[str, str]:
    """What the ingress has last been told."""
    return dict(machine.haproxy.state.callers) if machine.haproxy.state else {}


def test_each_caller_has_an_address_before_it_starts(machine: Machine, tmp_path: Path) -> None:
    """In a file that its network's unit reads, with an /etc/hosts beside it; the ingress knows whose it is."""
    folder = tmp_path / "calls"

    async def story() -> None:
        await machine.loop.settle()
        assert (folder / "ui-r1-0.number").read_text() == "1024\n"
        assert (folder / "batch-r1-0.number").read_text() == "2048\n"
        assert (folder / "ui-r1-0.hosts").read_text().endswith("198.18.255.1 llm.apps.internal\n")
        assert (folder / "ui-r1-0.hosts").stat().st_mode & 0o777 == 0o644
        assert sorted(path.name for path in folder.iterdir() if "llm" in path.name) == []
        await machine.loop.settle()
        assert known(machine) == {"198.18.4.0": "ui", "198.18.8.0": "batch"}
        assert machine.haproxy.state is not None
        assert machine.haproxy.state.calls == {
            "198.18.4.0/llm": "llm.apps.localhost", "198.18.8.0/llm": "llm.apps.localhost"
        }  # fmt: skip

    beside(machine, story)
    machine.close()


def test_an_address_is_free_when_the_ingress_has_forgotten_it(machine: Machine, tmp_path: Path) -> None:
    """Not before: another app that had it would have the rights of the former one."""
    folder = tmp_path / "calls"

    async def story() -> None:
        await machine.loop.settle()
        await machine.loop.settle()
        machine.haproxy.took_s = 5.0
        machine.store.want("ui", "stopped", 2.0)
        machine.loop.poke()
        await until(lambda: Replica("ui", 1).socket not in machine.systemd.units)
        assert (folder / "ui-r1-0.number").exists(), "HAProxy is still being told"
        other = machine.deployed("other", calls=("llm",))
        await until(lambda: other.socket in machine.systemd.units)
        assert machine.execute.callers.numbers[other] == 1025
        machine.haproxy.took_s = 0.0
        await until(lambda: not (folder / "ui-r1-0.number").exists())
        assert "198.18.4.0" not in known(machine)
        assert not (folder / "ui-r1-0.hosts").exists()
        assert Replica("ui", 1) not in machine.execute.callers.numbers
        machine.store.want("ui", "started", 3.0)
        await machine.loop.settle()
        assert (folder / "ui-r1-0.number").exists()

    beside(machine, story)
    machine.close()


def test_the_address_of_a_replica_that_runs_is_not_given_away(machine: Machine, tmp_path: Path) -> None:
    """Whatever the tables say: it began with that address, and would have the rights of the next one."""
    folder = tmp_path / "calls"

    async def story() -> None:
        await machine.loop.settle()
        await machine.loop.settle()
        starting = dataclasses.replace(values.facts(), ingress="activating")
        for found in (seen(machine), starting):
            machine.execute.callers.settle((), {}, {}, set(), found)
            assert machine.execute.callers.numbers[Replica("ui", 1)] == 1024
        machine.execute.callers.give_none(Replica("ui", 1))
        assert not (folder / "ui-r1-0.number").exists(), "a replica that calls none must not begin with it"
        assert machine.execute.callers.numbers[Replica("ui", 1)] == 1024
        assert machine.deployed("other", calls=("llm",))
        await machine.loop.settle()
        assert machine.execute.callers.numbers[Replica("other", 1)] == 1025

    beside(machine, story)
    machine.close()


def test_a_number_of_the_other_range_is_replaced(tmp_path: Path) -> None:
    """An app that is served again with --no-egress: the range decides what the router lets out."""
    callers = Callers(str(tmp_path))
    replica = Replica("ui", 1)
    for egress, number in ((True, 1024), (False, 2048), (False, 2048), (True, 1024)):
        callers.give(replica, SimpleNamespace(egress=egress, hosts="x"))  # type: ignore[arg-type]
        assert callers.numbers == {replica: number}
        assert (tmp_path / "ui-r1-0.number").read_text() == f"{number}\n"


def seen(machine: Machine) -> Facts:
    """What a look finds of the units."""
    return values.facts(units=dict(machine.systemd.units))


def test_a_restarted_daemon_knows_the_addresses(machine: Machine, tmp_path: Path) -> None:
    """The apps run on; what no app has is given back."""
    folder = tmp_path / "calls"

    async def story() -> None:
        await machine.loop.settle()
        (folder / "gone-r1-0.number").write_text("1030\n")
        (folder / "no replica.number").write_text("1031\n")
        (folder / "batch-r1-0.number").write_text("2050\n")
        machine.execute.sweep_starts()
        assert machine.execute.callers.numbers == {
            Replica("ui", 1): 1024, Replica("batch", 1): 2050, Replica("gone", 1): 1030
        }  # fmt: skip
        await machine.loop.settle()
        assert known(machine) == {"198.18.4.0": "ui", "198.18.8.2": "batch"}
        assert not (folder / "gone-r1-0.number").exists()

    beside(machine, story)
    machine.close()


@pytest.mark.parametrize(("says", "restarts"), [("Routing the networks of apps", 1), (ROUTES, 0), ("", 0), (None, 0)])
def test_a_router_of_an_older_version_is_replaced(machine: Machine, says: str | None, restarts: int) -> None:
    """Before the first app starts that calls others: with the new one comes the way to them."""
    if says is not None:
        machine.systemd.set(EGRESS_UNIT, "active", says)

    async def story() -> None:
        await machine.loop.settle()
        assert machine.systemd.asked["restart"] == 2 * restarts  # two callers, and the unit stays as it is here

    beside(machine, story)
    machine.close()
