"""What the helper reads from /proc: texts as the kernel and NVIDIA's driver write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyted.gpu.machine import capability_minors, driver_of_the_kernel, memory_of_the_machine, process, unit_of

VERSION = """NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22)\n"


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/flyted.slice/flyted-apps.slice/flyted-app-a-r1-0.service\n", "flyted-app-a-r1-0.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service/deep\n", "x.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
        ("1:name=systemd:/a.service\n0::/b.service\n", "b.service"),
        ("0::/\n", ""),
        ("", ""),
        ("0::/../../x.service.d/y\n", ""),
    ],
)
def test_the_unit_of_a_process(cgroup: str, unit: str) -> None:
    """The innermost service or scope of the unified hierarchy (cgroups(7))."""
    assert unit_of(cgroup) == unit


def test_a_process_that_is_gone_has_no_name(tmp_path: Path) -> None:
    """It may end between NVML's answer and the look; a real one has its name."""
    assert process(tmp_path, 1) == {"name": "", "unit": ""}
    assert process(Path("/proc"), os.getpid())["name"] == Path("/proc/self/comm").read_text().strip()
    (tmp_path / "7").mkdir()
    (tmp_path / "7/comm").write_bytes(b"a\nb\x1b[31m\xff\n")
    assert process(tmp_path, 7)["name"] == "a?b?[31m\ufffd"


def test_the_driver_in_the_kernel(tmp_path: Path) -> None:
    """Both of NVIDIA's modules; none."""
    assert driver_of_the_kernel(tmp_path) == ""
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    for text, version in ((VERSION, "535.183.01"), (OPEN, "580.95.05")):
        (tmp_path / "driver/nvidia/version").write_text(text)
        assert driver_of_the_kernel(tmp_path) == version


def test_a_partition_needs_two_capabilities(tmp_path: Path) -> None:
    """Its GPU instance's and its compute instance's (NVIDIA's MIG guide); one that is not told is an error."""
    base = tmp_path / "driver/nvidia/capabilities/gpu2/mig/gi3"
    (base / "ci0").mkdir(parents=True)
    (base / "access").write_text("DeviceFileMinor: 30\nDeviceFileMode: 292\nDeviceFileModify: 1\n")
    with pytest.raises(OSError, match="ci0"):
        capability_minors(tmp_path, 2, 3, 0)
    (base / "ci0/access").write_text("DeviceFileMode: 292\n")
    with pytest.raises(OSError, match="DeviceFileMinor"):
        capability_minors(tmp_path, 2, 3, 0)
    (base / "ci0/access").write_text("DeviceFileMinor: 31\n")
    assert capability_minors(tmp_path, 2, 3, 0) == [30, 31]


def test_memory_of_the_machine() -> None:
    """What a GPU without memory of its own shares."""
    assert memory_of_the_machine(Path("/proc")) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
