"""The life of a lease: nodes, what the app hears, when it is over, when its memory is back, when its GPU is lost."""

from __future__ import annotations

import json
from typing import Any

from flyted.contract.errors import HostFailure
from flyted.plan.gpus import lease as gpu_lease
from flyted.plan.gpus.facts import Inventory, Learned, inventory_of
from tests.plan.gpus import GIB, gpu, lease, machine, process, unit

PART = gpu("MIG-1", "NVIDIA A100 MIG 1g.5gb", 5, minor=2, profile="1g.5gb", capabilities=(21, 22))
SPLIT = gpu("GPU-a", "NVIDIA A100", 40, minor=2, split=True, partitions=(PART,))


def test_a_lease_opens_the_nodes_of_its_devices_only() -> None:
    """The driver's own, /dev/nvidiaN by minor number, and a partition's capabilities."""
    one = gpu("GPU-1", minor=3)
    there = machine(gpu("GPU-0", minor=0), one, SPLIT)
    paths = [path for path, mode in gpu_lease.nodes([one], there) if mode == "rw"]
    assert paths == ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia3"]
    assert [p for p, _ in gpu_lease.nodes([PART], there)][3:] == [
        "/dev/nvidia2", "/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-caps/nvidia-cap22",
    ]  # fmt: skip


def test_the_app_hears_uuids_or_a_reason() -> None:
    """The two forms of the credential."""
    assert json.loads(gpu_lease.granted([gpu("GPU-1"), gpu("GPU-2")], {})) == {"devices": ["GPU-1", "GPU-2"]}
    assert json.loads(gpu_lease.refused('no "GPU"')) == {"refused": 'no "GPU"'}


def test_a_lease_is_over_when_its_unit_is() -> None:
    """Also when systemd has forgotten the unit; never twice."""
    running, gone, over = lease("a", "1"), lease("b", "2"), lease("c", "3", ended=5.0)
    active = {unit("a"): "deactivating", unit("c"): "failed"}
    assert gpu_lease.ended([running, gone, over], active) == [gone]
    assert gpu_lease.ended([running], {unit("a"): "failed"}) == [running]


def test_memory_is_back_when_nothing_of_it_is_left() -> None:
    """Neither a process of the unit nor memory that nobody explains, beyond what the driver keeps."""
    over = lease("a", "1", ended=5.0, unexplained=300 << 20)
    assert gpu_lease.returned(over, machine(gpu("1", used=0.3)))
    assert gpu_lease.returned(over, machine(gpu("1", used=0.5)))  # within the slack
    assert not gpu_lease.returned(over, machine(gpu("1", used=3)))
    assert not gpu_lease.returned(over, machine(gpu("1", processes=(process(unit("a"), 0),))))
    assert gpu_lease.returned(over, machine(gpu("1", processes=(process(unit("b"), 40),))))  # another's
    assert gpu_lease.left(over, machine(gpu("1", used=3))) == 3 * GIB - (300 << 20)


def test_a_device_that_is_gone_holds_nothing() -> None:
    """It could not be granted anyway."""
    over = lease("a", "1", ended=5.0)
    assert gpu_lease.returned(over, machine())
    assert gpu_lease.returned(over, machine(gpu("1", used=9, error="GPU is lost")))


def test_a_lost_gpu_is_told_with_its_reason() -> None:
    """NVML's word, a GPU that has vanished, a partition whose GPU is lost, a driver that is gone."""
    held = lease("a", "1")
    assert gpu_lease.lost(held, machine(gpu("1"))) == ""
    assert gpu_lease.lost(held, machine(gpu("1", error="GPU is lost"))) == "1 (NVIDIA L40S): GPU is lost"
    assert gpu_lease.lost(held, machine()) == "1 (NVIDIA L40S) is gone"
    assert gpu_lease.lost(held, Inventory(reason="no driver")) == "no driver"
    broken = gpu("GPU-a", split=True, partitions=(PART,), error="GPU is lost")
    assert gpu_lease.lost(lease("a", "MIG-1"), machine(broken)) == "MIG-1 (NVIDIA A100 MIG 1g.5gb): GPU is lost"
    assert gpu_lease.hit(lease("a", "MIG-1"), "GPU-a", machine(SPLIT))
    assert not gpu_lease.hit(held, "GPU-a", machine(gpu("1"), SPLIT))


def test_use_is_counted_per_device() -> None:
    """The most that all its processes take of one."""
    there = machine(
        gpu("1", processes=(process(unit("a"), 2), process(unit("a"), 3), process(unit("b"), 9))),
        gpu("2", processes=(process(unit("a"), 4),)),
    )
    assert gpu_lease.used(unit("a"), ["1", "2", "gone"], there) == 5 * GIB


def test_who_loads_slowly_is_left_alone_longer() -> None:
    """Idle time ÷ load time; one that was just asked is not idle."""
    assert gpu_lease.worth(100.0, Learned(load_s=10.0)) == 10.0
    assert gpu_lease.worth(100.0, Learned()) == 100.0
    assert gpu_lease.worth(gpu_lease.MIN_IDLE_S - 0.1, Learned()) is None
    assert gpu_lease.worth(0.0, Learned(), 0.0) == 0.0


def test_an_answer_of_the_helper_that_makes_no_sense_is_an_error_of_ours() -> None:
    """It ran a foreign library: nothing it says is believed as it comes."""
    good: dict[str, Any] = {"driver": "1", "cuda": "13.0", "reason": "", "devices": []}
    assert inventory_of(good) == Inventory("1", "13.0")
    whole = {
        "uuid": "GPU-1", "name": "NVIDIA L40S", "minor": 0, "total": 9, "used": 1, "processes": [], "split": False,
        "partitions": [], "profile": "", "capabilities": [], "error": "",
    }  # fmt: skip
    assert inventory_of({**good, "devices": [whole]}).devices[0].free_bytes == 8
    wrong = (
        {"uuid": "a\nb"},
        {"name": "\x1b[31m"},
        {"minor": -1},
        {"minor": "0"},
        {"total": 1.5},
        {"error": "x" * 999},
    )
    for bad in (
        {}, {**good, "devices": [{}]}, {**good, "devices": 3}, {**good, "driver": 5},
        *({**good, "devices": [{**whole, **part}]} for part in wrong),
    ):  # fmt: skip
        try:
            inventory_of(bad)
        except HostFailure:
            continue
        raise AssertionError(bad)
