"""What a stranger's step can take of the machine, as the kernel counts it.

The steps stand on one static program, so that they also run where there is no network: in the emulated machine.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import layers
from tests.machine.kit.layers import bundle, copy, make, member, name, processes, shell
from tests.machine.kit.users import until

pytestmark = pytest.mark.once
CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
MIB = 1 << 20
APPLETS = ("dd", "sh", "cat", "sleep")


@pytest.fixture(scope="module")
def box() -> Iterator[str]:
    """A layer with busybox, and links to it."""
    program = member("bin/busybox", Path("/usr/bin/busybox").read_bytes(), mode=0o755)
    links = [member(f"bin/{each}", type=tarfile.SYMTYPE, linkname="busybox") for each in APPLETS]
    with layers.clean():
        made = make(name("box"), [], copy(bundle([program, *links]), "bin", "/bin"))
        assert made.ok, made.text
        yield made.layer


@pytest.mark.skipif("pids" not in CONTROLLERS, reason="the pids controller is not given to us")
def test_a_bounded_fork_bomb(box: str) -> None:
    """It is stopped at the unit's limit, and ends with it."""
    bomb = "bomb() { bomb | bomb & }; bomb; sleep 2; bomb"
    made = make(name("bomb"), [box], shell(bomb), settings={"tasks_max": 100})
    assert "Resource temporarily unavailable" in made.text
    until(lambda: processes() == [])


@pytest.mark.skipif("memory" not in CONTROLLERS, reason="the memory controller is not given to us")
@pytest.mark.parametrize("eats", ["of=/dev/null bs=600M count=1", "of=/dev/shm/x bs=1M count=600"])
def test_bounded_memory(box: str, eats: str) -> None:
    """Of the command, and of what it writes to a /dev/shm."""
    made = make(name(f"eater {eats}"), [box], shell(f"dd if=/dev/zero {eats}"), settings={"memory_max": 200 * MIB})
    assert made.end.result == "oom-kill", made
    assert "it used too much memory" in made.failure.message
    assert processes() == []
