"""The queue for GPUs on a machine in memory: who waits is served when those who are idle have gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.contract.gpu import Ask
from flyted.daemon.gpu_table import GpuTable
from flyted.daemon.gpus import Gpus
from flyted.host.gpu import Gpu
from flyted.host.gpu_records import GpuRecords
from flyted.plan.gpu_facts import Inventory
from tests.daemon.fake import Machine, beside
from tests.plan.gpus import gpu, lease, process
from tests.plan.gpus import machine as inventory_of_machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine without apps."""
    found = Machine(tmp_path, monkeypatch)
    yield found
    found.store.close()


@pytest.mark.parametrize("recorded", [True, False])
def test_an_idle_app_gives_way_also_when_its_lease_was_lost(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, recorded: bool
) -> None:
    """Its memory tells that it is there; it is put to sleep, and who waits gets the GPU."""
    table = GpuTable(GpuRecords(machine.store.database))
    old, new = (machine.deployed(name, scaledown_after_s=10_000.0) for name in ("old", "new"))
    helper = Gpu(tmp_path / "none")

    async def inventory() -> Inventory:
        used = (process(old.service, 40),) if machine.active(old.service) == "active" else ()
        return inventory_of_machine(gpu("1", processes=used))

    async def watch(_on_xid: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(helper, "inventory", inventory)
    monkeypatch.setattr(helper, "watch", watch)
    monkeypatch.setattr(machine.systemd, "allow_devices", lambda *_: None, raising=False)

    async def story() -> None:
        gpus = Gpus(helper, machine.systemd, table, machine.engine, machine.act.do, 60)  # type: ignore[arg-type]
        serving = asyncio.create_task(gpus.run())
        machine.runs(old, idle_s=1000.0)
        if recorded:
            table.hold(lease("old", "1"))
        machine.systemd.set(new.socket, "active")
        machine.systemd.set(new.service, "activating")
        await machine.engine.settle()
        assert json.loads(await gpus.lease(new, Ask(1))) == {"devices": ["1"]}
        assert machine.active(old.service) != "active"
        serving.cancel()

    beside(machine, story)
