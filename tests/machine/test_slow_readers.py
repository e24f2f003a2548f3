"""Readers of a build's output that stand still: the build ends all the same, and nobody keeps its output for them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import gateway, small
from tests.machine.kit.pypi_flyte import prepare
from tests.machine.kit.units import sh
from tests.machine.kit.users import curl, forget_apps, lines_of, running, until
from tests.machine.test_gateway_images import command, name_of_run, write

pytestmark = pytest.mark.long

NAME = "slow-reader"
RUN = time.time_ns()
LINES, LENGTH = 40_000, 900
MIB = 1 << 20
MOST = 16 * MIB
"""What a process may grow by: half of what is said. flyted keeps 1 MiB for a client, the gateway 256 Ki characters."""


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> Iterator[None]:
    prepare()
    yield
    forget_apps(NAME)


class Memory:
    """The most memory that a process has had since this was made, above what it had then."""

    def __init__(self, pid: int) -> None:
        """Have the kernel forget the peak of before: proc_pid_clear_refs(5)."""
        self.pid = pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self.before = self._kib("VmRSS")

    def grown(self) -> int:
        """In bytes."""
        return (self._kib("VmHWM") - self.before) << 10

    def _kib(self, name: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (found,) = [int(line.split()[1]) for line in lines if line.startswith(f"{name}:")]
        return found


def flyted() -> int:
    return int(sh("systemctl", "show", "-P", "MainPID", "flyted.service"))


def talks(line: str) -> str:
    """A command that says some 36 MB in lines."""
    return f"x=$(printf '%{LENGTH}s' {line}); i=0; while [ $i -lt {LINES} ]; do echo $i \\\"$x\\\"; i=$((i+1)); done"


def still(process: subprocess.Popen[str]) -> None:
    """Stop a command with all its children: it reads nothing more, and stays connected."""
    os.killpg(process.pid, signal.SIGSTOP)


def test_a_build_by_flyte_does_not_wait_for_who_reads_its_log() -> None:
    """`flyte get logs` stands still from its first lines on; the gateway keeps the last lines for others, no more."""
    file = write("slow-log", f"echo begun; sleep 4; {talks('gateway')}")
    with subprocess.Popen(command("build", file, "env"), stderr=subprocess.PIPE, text=True) as building:
        run = name_of_run(building)
        words = command("get", "logs", run)
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as reading:
            assert reading.stdout is not None
            until_line(reading, "begun")
            still(reading)
            of_gateway, of_flyted = Memory(gateway.pid()), Memory(flyted())
            building.communicate(timeout=500)
            grown = of_gateway.grown(), of_flyted.grown()
            os.killpg(reading.pid, signal.SIGKILL)
    assert building.returncode == 0
    assert max(grown) < MOST, grown
    after = subprocess.run(
        command("get", "logs", run), capture_output=True, text=True, check=False, timeout=120
    ).stdout
    assert f"{LINES - 1} " in after, "the last lines are kept"
    assert len(after) < 2 * MIB


def until_line(process: subprocess.Popen[str], text: str) -> None:
    """Read a process's output up to a line with this text."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"it never said {text}")


def test_a_build_by_flytectl_does_not_wait_for_who_watches_it() -> None:
    """Two wait for one image: one stands still, and the other one gets its app."""
    talk = talks("daemon").replace('\\"', '"').replace("printf", "/bin/busybox printf")
    file = small.app(NAME, f"RUN echo {RUN} >/www/index.html; echo begun; /bin/busybox sleep 4; {talk}")
    with running("flytectl", "image", "build", file) as watching:
        until_line(watching, "begun")
        with running("flytectl", "serve", file) as serving:
            said = lines_of(serving)
            until(lambda: bool(said))
            still(watching)
            memory = Memory(flyted())
            assert serving.wait(500) == 0, said[-5:]
            grown = memory.grown()
        os.killpg(watching.pid, signal.SIGCONT)
    assert grown < MOST, grown
    assert curl(f"https://{NAME}.apps.localhost/")[1].strip() == str(RUN)
    assert any(f"{LINES - 1} " in line for line in said), "who reads gets all to the end"
