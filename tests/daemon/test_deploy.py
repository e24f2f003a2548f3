"""What is left of a deploy that fails: nothing of it runs, the old revision serves, and the client hears why."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.answers.events import START, Event
from flyted.contract.errors import DeployFailed, HostFailure
from flyted.contract.names import AppKey, Replica
from flyted.daemon.apps.bundles import Bundles
from flyted.daemon.apps.deploy import Deploy
from flyted.daemon.apps.locks import DeployLocks
from flyted.daemon.ingress.records import Records
from flyted.daemon.models import ModelVerbs
from flyted.daemon.volumes import VolumeVerbs
from flyted.host.models import Models
from flyted.host.volumes import Volumes
from tests.daemon.fake import Machine, beside
from tests.values import spec

KEY = AppKey("default", "development", "a")
OLD, NEW = Replica("a", 1), Replica("a", 2)


class Deploys:
    """The real way of a deploy, with an environment that is there already; ``at`` is done when the start begins."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self.store = machine, machine.store
        self.python = folder / "env"
        (self.python / "bin").mkdir(parents=True)
        (self.python / "bin/python").touch()
        nothing: Any = None
        self.deploy = Deploy(
            machine.loop, machine.look, machine.execute, machine.explain, machine.config, self.store, nothing,
            machine.images, Bundles(folder, self.store.apps), machine.inventory,
            ModelVerbs(Models(self.store.database)), VolumeVerbs(Volumes(self.store.database), self.store),
            DeployLocks(), Records(machine.systemd, machine.sites.all),
        )  # fmt: skip
        self.at: Callable[[], None] = lambda: None

    async def emit(self, event: Event) -> None:
        """What the client hears."""
        if event.kind == START:
            self.at()

    async def serve(self) -> None:
        """Deploys app "a", whose first revision serves already."""
        await self.deploy.serve(spec("a", python_env=str(self.python)), {}, self.emit, "bob")

    def refuse_writes(self) -> None:
        """From now on the disk does not take a byte, not even with what is kept for deletions."""
        self.store.database._db.execute("PRAGMA query_only = ON")

    def left(self) -> tuple[int | None, str, str, str]:
        """Which revision serves, how the new one is recorded, and its units."""
        app = self.store.app("a")
        revision = app.revision(2)
        active = self.machine.active
        return app.serving, revision.status if revision else "", active(NEW.socket), active(NEW.service)


@pytest.fixture
def deploys(tmp_path: Path) -> Iterator[Deploys]:
    """An app serves."""
    machine = Machine(tmp_path)
    machine.runs(machine.deployed("a"))
    yield Deploys(machine, tmp_path)
    machine.close()


def fails(deploys: Deploys) -> BaseException:
    """Why the deploy of a second revision fails, as its client hears it; the loop has settled since."""
    caught: list[BaseException] = []

    async def story() -> None:
        await deploys.machine.loop.settle()
        try:
            await deploys.serve()
        except Exception as error:
            caught.append(error)
        await deploys.machine.loop.settle()
        await deploys.machine.loop.at_rest(NEW)

    beside(deploys.machine, story)
    assert deploys.machine.active(OLD.socket) == "active"
    return caught[0]


def test_one_that_comes_up_serves(deploys: Deploys) -> None:
    """The way of the others, when nothing fails."""

    async def story() -> None:
        await deploys.serve()

    beside(deploys.machine, story)
    assert deploys.left() == (2, "ready", "active", "active")


def test_who_deploys_on_a_full_disk_hears_why_the_app_failed(deploys: Deploys) -> None:
    """It cannot be recorded, which is no reason to leave the units, or to tell the client of the disk alone."""
    deploys.machine.systemd.starts = "failed"
    deploys.at = deploys.refuse_writes
    error = fails(deploys)
    assert isinstance(error, DeployFailed)
    assert "revision 2 of app 'a' did not start" in error.message
    assert deploys.left() == (1, "pending", "", "")


def test_units_that_systemd_does_not_take_down_do_not_hide_why_the_app_failed(
    deploys: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deploy's own words remain, and the revision is a failed one."""
    deploys.machine.systemd.starts = "failed"

    async def stop(_name: str) -> str:
        raise HostFailure("systemd does not answer")

    monkeypatch.setattr(deploys.machine.systemd, "stop", stop)
    assert isinstance(fails(deploys), DeployFailed)
    assert deploys.left()[:2] == (1, "failed")


def test_a_journal_that_cannot_be_read_does_not_hide_that_the_app_failed(deploys: Deploys) -> None:
    """The client hears both."""
    deploys.machine.journal.error = HostFailure("journalctl ended with 1")
    deploys.machine.systemd.starts = "failed"
    error = fails(deploys)
    assert isinstance(error, DeployFailed)
    assert "did not start: the cause of the failure is unknown: journalctl ended with 1" in error.message
    assert deploys.left() == (1, "failed", "", "")


def test_one_that_comes_up_and_cannot_be_recorded_is_undone(deploys: Deploys, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be pending and run beside the one that serves."""

    def serve(*_words: Any) -> None:
        raise HostFailure("cannot write flyted.db: database or disk is full")

    monkeypatch.setattr(deploys.store, "serve", serve)
    assert "disk is full" in str(fails(deploys))
    assert deploys.left() == (1, "failed", "", "")


def test_a_fault_of_our_own_undoes_the_deploy_too(deploys: Deploys, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that no one foresaw, in the middle of a start: the units go, and the revision is not pending."""

    def start_pair(*_words: Any) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(deploys.machine.systemd, "start_pair", start_pair)
    assert str(fails(deploys)) == "unforeseen"
    assert deploys.left() == (1, "failed", "", "")
    assert "internal error in flyted: RuntimeError" in deploys.store.app("a").revisions[-1].reason


def test_one_that_is_cancelled_as_it_starts_is_undone(deploys: Deploys) -> None:
    """At the moment when its client is told so: the revision is recorded already, and has no units yet."""
    told = asyncio.Event()

    async def emit(event: Event) -> None:
        if event.kind == START:
            told.set()
            await asyncio.Event().wait()

    deploys.emit = emit  # type: ignore[method-assign]

    async def story() -> None:
        deploy = asyncio.create_task(deploys.serve())
        await told.wait()
        async with deploys.deploy.locks.ending(KEY):
            assert deploys.left() == (1, "failed", "", "")
        with contextlib.suppress(DeployFailed):
            await deploy

    beside(deploys.machine, story)


def test_a_fault_at_one_of_several_replicas_leaves_none_of_them(
    deploys: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What starts beside it has ended when it is undone, and the client hears the fault."""
    clear, start = deploys.machine.execute.clear, deploys.machine.execute.start_service
    starting: set[Replica] = set()
    undone: list[bool] = []

    async def started(replica: Replica) -> str:
        starting.add(replica)
        try:
            await asyncio.sleep(replica.number)
            if replica.number == 1:
                raise KeyError("a fault of ours")
            return await start(replica)
        finally:
            starting.discard(replica)

    async def cleared(replica: Replica) -> None:
        undone.append(not starting)
        await clear(replica)

    monkeypatch.setattr(deploys.machine.execute, "start_service", started)
    monkeypatch.setattr(deploys.machine.execute, "clear", cleared)

    async def story() -> None:
        await deploys.machine.loop.settle()
        several = spec("a", python_env=str(deploys.python), min_replicas=3, max_replicas=3)
        with pytest.raises(KeyError):
            await deploys.deploy.serve(several, {}, deploys.emit, "bob")
        await asyncio.sleep(3.0)

    beside(deploys.machine, story)
    assert undone
    assert all(undone)
    assert deploys.left() == (1, "failed", "", "")
    replicas = [Replica("a", 2, number) for number in range(3)]
    assert [deploys.machine.active(each.socket) for each in replicas] == ["", "", ""]
