"""The queue for GPUs on a machine in memory: who waits is served when those who are idle have gone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from flyted.contract.errors import HostFailure, NoGpu
from flyted.contract.gpu import Ask
from flyted.contract.names import AppKey, Replica
from flyted.daemon.gpus.verbs import GpuVerbs
from flyted.plan.facts import ImageFact, RootFact
from flyted.plan.gpus.facts import DriverFile, DriverFiles, Inventory, Learned, Lease
from flyted.plan.idle import Traffic
from tests.daemon.fake import Machine, beside
from tests.plan.gpus import GIB, gpu, lease, process
from tests.plan.gpus import machine as inventory_of_machine


def test_who_waits_for_a_program_to_end_keeps_nobody_from_what_it_leaves(machine: Machine) -> None:
    """The first needs a whole GPU, the second a little of the same one."""
    whole, small = (machine.deployed(name) for name in ("whole", "small"))
    machine.gpu.now = lambda: inventory_of_machine(gpu("1", processes=(process("gdm.service", 30),)))
    machine.table._learn("small", Learned(peak_bytes=5 * GIB))

    async def story() -> None:
        for replica in (whole, small):
            machine.systemd.set(replica.socket, "active")
            machine.systemd.set(replica.service, "activating")
        first = asyncio.create_task(machine.leases.lease(whole, Ask(1)))
        await asyncio.sleep(2)
        assert json.loads(await machine.leases.lease(small, Ask(1))) == {"devices": ["1"]}
        assert not first.done()
        assert "30.0 GiB used by programs that are not apps" in json.loads(await first)["refused"]

    beside(machine, story)


@pytest.mark.parametrize("recorded", [True, False])
def test_an_idle_app_gives_way_also_when_its_lease_was_lost(machine: Machine, *, recorded: bool) -> None:
    """Its memory tells that it is there; it is put to sleep, and who waits gets the GPU."""
    old, new = (machine.deployed(name, scaledown_after_s=10_000.0) for name in ("old", "new"))

    def now() -> Inventory:
        used = (process(old.service, 40),) if machine.active(old.service) == "active" else ()
        return inventory_of_machine(gpu("1", processes=used))

    machine.gpu.now = now

    async def story() -> None:
        machine.runs(old, idle_s=1000.0)
        if recorded:
            machine.table.hold(lease("old", "1"))
        machine.systemd.set(new.socket, "active")
        machine.systemd.set(new.service, "activating")
        await machine.loop.settle()
        assert json.loads(await machine.leases.lease(new, Ask(1))) == {"devices": ["1"]}
        assert machine.active(old.service) != "active"
        assert "/dev/nvidia0" in machine.systemd.devices[new.service]

    beside(machine, story)


def starts(machine: Machine, replica: Replica) -> asyncio.Task[bytes]:
    """systemd starts a unit, and asks for its GPU."""
    machine.systemd.set(replica.socket, "active")
    machine.systemd.set(replica.service, "activating")
    return asyncio.create_task(machine.leases.lease(replica, Ask(1)))


def test_a_free_gpu_is_granted_as_soon_as_it_was_looked_at(machine: Machine) -> None:
    """No timer is waited for; with a lease held and nobody waiting, nothing is looked at any more."""
    replica = machine.deployed("a", scaledown_after_s=10_000.0)
    machine.gpu.now, machine.gpu.took_s = lambda: inventory_of_machine(gpu("1")), 0.2

    async def story() -> None:
        clock = asyncio.get_running_loop().time
        await machine.loop.settle()
        began = clock()
        assert json.loads(await starts(machine, replica)) == {"devices": ["1"]}
        assert clock() - began == pytest.approx(0.2)
        machine.runs(replica, idle_s=0.0)
        await asyncio.sleep(5)
        asked, passes = machine.gpu.asked, machine.systemd.asked["list"]
        await asyncio.sleep(3600)
        assert (machine.gpu.asked, machine.systemd.asked["list"]) == (asked, passes)
        assert [each.unit for each in machine.table.running] == [replica.service]

    beside(machine, story)


def test_a_start_that_takes_the_place_of_one_that_was_cancelled_is_served(machine: Machine) -> None:
    """It comes during a look that has found the unit at rest: that was the other one."""
    replica, web = machine.deployed("a"), machine.deployed("web", scaledown_after_s=10_000.0)
    machine.gpu.now = lambda: inventory_of_machine(gpu("1"))

    async def story() -> None:
        machine.runs(web, idle_s=0.0)
        await machine.loop.settle()
        machine.gpu.took_s = 5.0
        first = starts(machine, replica)
        await asyncio.sleep(0.1)
        machine.haproxy.stats_s = 1.0
        machine.systemd.set(replica.service, "inactive")
        await asyncio.sleep(0.5)
        assert not first.done()
        second = starts(machine, replica)
        assert await first == b""
        assert json.loads(await second) == {"devices": ["1"]}

    beside(machine, story)


def test_slow_passes_keep_nobody_from_a_gpu(machine: Machine) -> None:
    """The ingress takes three seconds each time: what was looked at during a pass counts for the next one."""
    replica = machine.deployed("a")
    machine.gpu.now = lambda: inventory_of_machine(gpu("1"))
    machine.haproxy.took_s = 3.0

    async def story() -> None:
        machine.loop.poke()
        await asyncio.sleep(0.5)
        assert json.loads(await starts(machine, replica)) == {"devices": ["1"]}

    beside(machine, story)


def test_an_app_that_gets_a_request_as_it_is_to_give_way_stays(machine: Machine) -> None:
    """It comes after the look of the pass, while the ingress is told something; then it gives way all the same."""
    old, new = (machine.deployed(name, scaledown_after_s=10_000.0) for name in ("old", "new"))
    machine.gpu.now = lambda: inventory_of_machine(gpu("1"))

    async def story() -> None:
        machine.runs(old, idle_s=1000.0)
        machine.table.hold(lease("old", "1"))
        await machine.loop.settle()
        await asyncio.sleep(10)
        machine.haproxy.took_s = 0.5
        lease_of_new = starts(machine, new)
        await asyncio.sleep(0.7)
        machine.haproxy.traffic[old.server] = Traffic(1, 0, 2, 1, 0.0, 0.0, "p", 1e6)
        await asyncio.sleep(30)
        assert machine.active(old.service) == "active"
        assert machine.systemd.asked["stop"] == 0
        machine.haproxy.traffic[old.server] = Traffic(0, 0, 2, 2, 30.0, 30.0, "p", 1e6)
        assert json.loads(await lease_of_new) == {"devices": ["1"]}
        assert machine.active(old.service) == "inactive"

    beside(machine, story)


def test_a_lease_that_the_disk_refuses_is_tried_again_and_stops_no_pass(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits hears why; others come up meanwhile."""
    replica = machine.deployed("a")
    machine.gpu.now = lambda: inventory_of_machine(gpu("1"))
    hold, full = machine.table.hold, [True]

    def held(granted: Lease) -> None:
        if full:
            raise HostFailure("disk is full")
        hold(granted)

    monkeypatch.setattr(machine.table, "hold", held)

    async def story() -> None:
        answer = starts(machine, replica)
        await asyncio.sleep(3)
        assert machine.leases.facts().waits == {replica.service: "disk is full"}
        web = machine.deployed("web")
        await machine.loop.settle()
        assert machine.active(web.socket) == "active"
        full.clear()
        assert json.loads(await answer) == {"devices": ["1"]}

    beside(machine, story)


def test_who_gets_no_gpu_in_time_fails_and_is_tried_again_later(machine: Machine) -> None:
    """A busy app holds it: the start is refused, and its pair taken down once that start has ended."""
    busy, late = (machine.deployed(name, scaledown_after_s=10_000.0) for name in ("busy", "late"))
    machine.gpu.now = lambda: inventory_of_machine(gpu("1"))

    async def story() -> None:
        machine.runs(busy)
        machine.haproxy.traffic[busy.server] = Traffic(1, 0, 2, 1, 0.0, 0.0, "p", 1e6)
        machine.table.hold(lease("busy", "1"))
        said = json.loads(await starts(machine, late))["refused"]
        assert "no GPU within 60 s: needs 1 × GPU" in said
        assert "held by busy (busy)" in said
        await machine.loop.settle()
        assert machine.loop.failures == {}
        machine.systemd.set(late.service, "failed")
        await machine.loop.settle()
        assert machine.loop.failures[late].reason == f"no GPU: {said}"
        await machine.loop.at_rest(late)
        assert machine.active(late.socket) == ""
        await asyncio.sleep(5)
        assert machine.active(late.socket) == "active"

    beside(machine, story)


def test_what_is_left_of_a_unit_on_its_gpu_is_killed_and_the_gpu_lent_again(machine: Machine) -> None:
    """A process of it outlives its unit."""
    replica = machine.deployed("a", scaledown_after_s=10_000.0)
    left = [process(replica.service, 20)]
    machine.gpu.now = lambda: inventory_of_machine(gpu("1", processes=tuple(left)))
    machine.table.hold(lease("a", "1"))

    async def story() -> None:
        kill = machine.systemd.kill

        def killed(name: str) -> None:
            left.clear()
            kill(name)

        machine.systemd.kill = killed  # type: ignore[method-assign]
        await machine.loop.settle()
        assert [each.ended_at is not None for each in machine.table.leases] == [True]
        await asyncio.sleep(20)
        assert (left, machine.table.leases) == ([], ())

    beside(machine, story)


CUDA = DriverFile("/usr/lib/libcuda.so.570.1", "/usr/lib/libcuda.so.570.1", "libcuda.so.1")
SPEC = DriverFiles("/run/cdi/nvidia.yaml", (CUDA,), environment=(("NVIDIA_VISIBLE_DEVICES", "void"),))
ROOT = ImageFact("", root=RootFact(("a" * 32,)))


def test_each_lease_shows_the_driver_of_that_moment(machine: Machine) -> None:
    """To an app in the root of its image, before it starts; another app needs none of it."""
    rooted, plain = machine.deployed("rooted", ROOT), machine.deployed("plain")
    files = SPEC
    machine.gpu.now = lambda: inventory_of_machine(gpu("1"), gpu("2", minor=1), files=files)

    async def story() -> None:
        nonlocal files
        assert json.loads(await starts(machine, plain)) == {"devices": ["1"]}
        assert machine.gpu.links == {}
        granted = {"devices": ["2"], "environment": {"NVIDIA_VISIBLE_DEVICES": "void"}}
        assert json.loads(await starts(machine, rooted)) == granted
        assert machine.gpu.links["lib/libcuda.so.1"] == "/usr/lib/flyted/host/lib/libcuda.so.570.1"
        machine.systemd.set(rooted.service, "inactive")
        await asyncio.sleep(1)
        new = replace(CUDA, place="/usr/lib/libcuda.so.580.2", path="/usr/lib/libcuda.so.580.2")
        files = DriverFiles("ldconfig", (new,))
        await asyncio.sleep(1)
        assert json.loads(await starts(machine, rooted)) == {"devices": ["2"]}
        assert set(machine.gpu.links) == {"lib/libcuda.so.1", "lib/libcuda.so.580.2"}

    beside(machine, story)


def test_without_the_drivers_files_a_start_is_refused_in_words(machine: Machine) -> None:
    """Only that of an app in a root: another may bring them in its environment, or need none."""
    rooted, plain = machine.deployed("rooted", ROOT), machine.deployed("plain")
    machine.gpu.now = lambda: inventory_of_machine(gpu("1"))

    async def story() -> None:
        refusal = json.loads(await starts(machine, rooted))["refused"]
        assert refusal.startswith("libcuda.so.1 of the NVIDIA driver was not found")
        assert json.loads(await starts(machine, plain)) == {"devices": ["1"]}
        assert machine.gpu.links == {}

    beside(machine, story)


def test_links_that_cannot_be_made_cost_the_start_and_no_gpu(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full /run, say: the app would not find its driver. The GPU stays free."""
    rooted = machine.deployed("rooted", ROOT)
    machine.gpu.now = lambda: inventory_of_machine(gpu("1"), files=SPEC)

    def fails(_links: object) -> None:
        raise HostFailure("the links to the NVIDIA driver cannot be made: no space")

    async def story() -> None:
        monkeypatch.setattr(machine.gpu, "show", fails)
        assert "cannot be made: no space" in json.loads(await starts(machine, rooted))["refused"]
        assert machine.table.running == ()

    beside(machine, story)


def test_a_deploy_and_doctor_say_what_is_missing_of_the_driver(machine: Machine) -> None:
    """Before anything is built; with where the file is, or what to install. No app, no driver: nothing to say."""
    verbs = GpuVerbs(machine.inventory, machine.loop.facts)
    app = AppKey("default", "development", "rooted")

    async def story() -> None:
        assert [each.name for each in await verbs.findings()] == ["gpu"]
        machine.gpu.now = lambda: inventory_of_machine(gpu("1"))
        with pytest.raises(
            NoGpu, match=r"GPUs for app 'rooted', whose image has its own root file system: libcuda\.so\.1"
        ) as it:
            await machine.inventory.check_driver(app, needed=True)
        assert "libcuda1" in it.value.hint
        await machine.inventory.check_driver(app, needed=False)
        assert [(each.ok, each.name) for each in await verbs.findings()] == [(True, "gpu"), (True, "gpu driver")]
        machine.gpu.now = lambda: inventory_of_machine(gpu("1"), files=SPEC)
        await machine.inventory.check_driver(app, needed=True)
        assert (await verbs.findings())[1].detail.startswith(
            "CDI spec /run/cdi/nvidia.yaml: 2 names of libraries; missing"
        )
        machine.gpu.now = lambda: Inventory(reason="no driver", files=DriverFiles(problems=("x is broken",)))
        found = (await verbs.findings())[1:]
        assert [each.ok for each in found] == [True, False]
        assert found[1].detail == "x is broken"

    beside(machine, story)
