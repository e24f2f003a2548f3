"""The queue for GPUs on a machine in memory: who waits is served when those who are idle have gone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from flyted.contract.gpu import Ask
from flyted.daemon.gpus.leases import Gpus
from flyted.daemon.gpus.table import GpuTable
from flyted.host.gpu import Gpu
from flyted.host.gpu_records import GpuRecords
from flyted.plan.gpus.facts import Inventory, Learned
from tests.daemon.fake import Machine, beside
from tests.plan.gpus import GIB, gpu, lease, process
from tests.plan.gpus import machine as inventory_of_machine


@pytest.fixture
def helper(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Asks no GPU for its errors; systemd opens every node."""

    async def watch(_on_xid: object) -> None:
        await asyncio.Event().wait()

    found = Gpu(tmp_path / "none")
    monkeypatch.setattr(found, "watch", watch)
    monkeypatch.setattr(machine.systemd, "allow_devices", lambda *_: None, raising=False)
    return found


def test_who_waits_for_a_program_to_end_keeps_nobody_from_what_it_leaves(
    machine: Machine, helper: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first needs a whole GPU, the second a little of the same one."""
    table = GpuTable(GpuRecords(machine.store.database))
    whole, small = (machine.deployed(name) for name in ("whole", "small"))

    async def inventory() -> Inventory:
        return inventory_of_machine(gpu("1", processes=(process("gdm.service", 30),)))

    monkeypatch.setattr(helper, "inventory", inventory)
    table._learn("small", Learned(peak_bytes=5 * GIB))

    async def story() -> None:
        gpus = Gpus(helper, machine.systemd, table, machine.loop, machine.execute.do, 60)  # type: ignore[arg-type]
        serving = asyncio.create_task(gpus.run())
        for replica in (whole, small):
            machine.systemd.set(replica.socket, "active")
            machine.systemd.set(replica.service, "activating")
        first = asyncio.create_task(gpus.lease(whole, Ask(1)))
        await asyncio.sleep(2)
        assert json.loads(await gpus.lease(small, Ask(1))) == {"devices": ["1"]}
        assert not first.done()
        assert "30.0 GiB used by programs that are not apps" in json.loads(await first)["refused"]
        serving.cancel()

    beside(machine, story)


@pytest.mark.parametrize("recorded", [True, False])
def test_an_idle_app_gives_way_also_when_its_lease_was_lost(
    machine: Machine, helper: Gpu, monkeypatch: pytest.MonkeyPatch, *, recorded: bool
) -> None:
    """Its memory tells that it is there; it is put to sleep, and who waits gets the GPU."""
    table = GpuTable(GpuRecords(machine.store.database))
    old, new = (machine.deployed(name, scaledown_after_s=10_000.0) for name in ("old", "new"))

    async def inventory() -> Inventory:
        used = (process(old.service, 40),) if machine.active(old.service) == "active" else ()
        return inventory_of_machine(gpu("1", processes=used))

    monkeypatch.setattr(helper, "inventory", inventory)

    async def story() -> None:
        gpus = Gpus(helper, machine.systemd, table, machine.loop, machine.execute.do, 60)  # type: ignore[arg-type]
        serving = asyncio.create_task(gpus.run())
        machine.runs(old, idle_s=1000.0)
        if recorded:
            table.hold(lease("old", "1"))
        machine.systemd.set(new.socket, "active")
        machine.systemd.set(new.service, "activating")
        await machine.loop.settle()
        assert json.loads(await gpus.lease(new, Ask(1))) == {"devices": ["1"]}
        assert machine.active(old.service) != "active"
        serving.cancel()

    beside(machine, story)
