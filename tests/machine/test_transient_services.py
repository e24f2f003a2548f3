"""Transient services that run to their end: one after the other under one name, waited for, and stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.errors import HostFailure
from flyted.plan.facts import UnitEnd
from tests.machine.kit.units import connected, must, run

pytestmark = pytest.mark.usefixtures("stub_app")


def command(*argv: str, **more: Any) -> dict[str, Any]:
    return {"Type": "exec", "ExecStartEx": [(argv[0], list(argv), ["no-env-expand"])], **more}


def test_a_transient_service_runs_to_its_end() -> None:
    """How it ended is known whatever CollectMode says; its output went to the descriptor that was passed."""

    async def work() -> None:
        reading, writing = os.pipe()
        async with connected() as units:
            for status in (0, 3):
                end = await units.run_transient(
                    "flyted-test-run.service",
                    command("/bin/sh", "-c", f"echo out && exit {status}", StandardOutputFileDescriptor=writing,
                            CollectMode="inactive-or-failed"),
                )  # fmt: skip
                assert end == UnitEnd("success" if status == 0 else "exit-code", status)
                assert os.read(reading, 100) == b"out\n"
            assert units.list(["flyted-test-run.service"]) == []
        os.close(writing)
        os.close(reading)

    run(work())


def test_two_of_one_name_run_one_after_the_other() -> None:
    """Two clients that need the same image: the second waits for the first, and stops nothing."""

    async def work() -> None:
        reading, writing = os.pipe()
        async with connected() as units:
            both = [
                units.run_transient(
                    "flyted-test-turn.service",
                    command("/bin/sh", "-c", f"echo {n} in && sleep 0.3 && echo {n} out",
                            StandardOutputFileDescriptor=writing),
                )
                for n in (1, 2)
            ]  # fmt: skip
            assert await asyncio.gather(*both) == [UnitEnd("success", 0)] * 2
        os.close(writing)
        lines = os.read(reading, 1000).split(b"\n")[:-1]
        assert sorted([lines[:2], lines[2:]]) == [[b"1 in", b"1 out"], [b"2 in", b"2 out"]]
        os.close(reading)

    run(work())


@pytest.fixture
def after_a_slow_one() -> Iterator[str]:
    """The name of a service whose start systemd puts off until ``flyted-test-slow.service`` has ended."""
    name = "flyted-test-after.service"
    folder = Path(f"/run/systemd/system/{name}.d")
    folder.mkdir(parents=True)
    (folder / "after.conf").write_text("[Unit]\nAfter=flyted-test-slow.service\n")
    must("systemctl", "daemon-reload")
    yield name
    shutil.rmtree(folder)
    must("systemctl", "daemon-reload")


def test_one_that_is_about_to_start_is_waited_for(after_a_slow_one: str, tmp_path: Path) -> None:
    """Until systemd has come to the job that starts it, a unit is as inactive as one that has ended."""
    said = tmp_path / "said"

    async def work() -> None:
        async with connected() as units:
            slow = units.run_transient("flyted-test-slow.service", command("/bin/sleep", "1", Type="oneshot"))
            says = command("/bin/sh", "-c", f"echo x >>{said}")
            both = [units.run_transient(after_a_slow_one, says) for _ in (1, 2)]
            assert await asyncio.gather(slow, *both) == [UnitEnd("success", 0)] * 3
            assert said.read_text() == "x\nx\n"

    run(work())


def test_one_that_is_stopped_before_it_began_has_not_ended_well(after_a_slow_one: str) -> None:
    """What never ran has done nothing, even if systemd has no failure to tell of."""

    async def work() -> None:
        async with connected() as units:
            slow = asyncio.create_task(
                units.run_transient("flyted-test-slow.service", command("/bin/sleep", "3", Type="oneshot"))
            )
            stopped = asyncio.create_task(units.run_transient(after_a_slow_one, command("/bin/true")))
            await asyncio.sleep(0.2)
            await units.stop(after_a_slow_one)
            with pytest.raises(HostFailure, match=f"systemd did not start {after_a_slow_one}: canceled"):
                await stopped
            assert await slow == UnitEnd("success", 0)

    run(work())


def test_whoever_stops_waiting_stops_the_service() -> None:
    """A client that goes away, or a time limit, leaves no build behind."""

    async def work() -> None:
        async with connected() as units:
            changes: asyncio.Queue[str] = asyncio.Queue()
            units.subscribe(changes.put_nowait)
            with pytest.raises(HostFailure, match="did not end within"):
                await units.run_transient("flyted-test-slow.service", command("/bin/sleep", "600"), 0.3)
            waiting = asyncio.create_task(
                units.run_transient("flyted-test-slow.service", command("/bin/sleep", "600"))
            )
            while not any(f.active == "active" for f in units.list(["flyted-test-slow.service"])):
                await changes.get()
            waiting.cancel()
            await asyncio.wait([waiting], timeout=60)
            assert waiting.cancelled()
            assert units.list(["flyted-test-slow.service"]) == []

    run(work())
