"""The edge to the helper: what it answers, and what becomes of answers that make no sense."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure
from flyted.host import gpu
from flyted.host.database import Database
from flyted.host.gpu import Gpu
from flyted.host.gpu_records import GpuRecords
from flyted.plan.gpus.facts import Learned
from tests.plan.gpus import lease

EMPTY = {"driver": "580.95.05", "cuda": "13.0", "reason": "", "devices": []}


@contextlib.asynccontextmanager
async def helper(path: Path, *answers: bytes) -> AsyncIterator[list[bytes]]:
    """A helper that gives one answer per connection; what it was asked."""
    asked: list[bytes] = []
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(left.pop(0) if left else b"")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, str(path)):
        yield asked


def test_the_inventory_is_asked_anew_each_time(tmp_path: Path) -> None:
    """One line out, one line in."""

    async def work() -> None:
        lines = [json.dumps({**EMPTY, "driver": str(n)}).encode() + b"\n" for n in range(2)]
        async with helper(tmp_path / "s", *lines) as asked:
            found = [(await Gpu(tmp_path / "s").inventory()).driver for _ in lines]
        assert (found, asked) == (["0", "1"], [b"list\n", b"list\n"])

    asyncio.run(work())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "not JSON"),
        (b"nonsense\n", "not JSON"),
        (b"[" * 500_000 + b"\n", "not JSON"),
        (b"[]\n", "not a map"),
        (b"{}\n", "malformed"),
        (b"x" * (2 << 20), "does not answer"),
    ],
)
def test_an_answer_that_makes_no_sense_is_a_failure_of_the_host(tmp_path: Path, answer: bytes, why: str) -> None:
    """Cut off, not JSON, nested without end, something else, without end."""

    async def work() -> None:
        async with helper(tmp_path / "s", answer):
            with pytest.raises(HostFailure, match=f"flyted-gpu .*{why}"):
                await Gpu(tmp_path / "s").inventory()

    asyncio.run(work())


def test_no_helper_is_a_failure_of_the_host(tmp_path: Path) -> None:
    """With what to type."""
    with pytest.raises(HostFailure, match="does not answer") as caught:
        asyncio.run(Gpu(tmp_path / "s").inventory())
    assert "journalctl -u flyted-gpu" in caught.value.hint


def test_a_watch_goes_on_when_the_helper_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each error is told; what happened while nobody listened shows in the inventory, so it is asked for (0)."""
    monkeypatch.setattr(gpu, "_RETRY_S", 0.0)
    seen: list[tuple[str, int]] = []

    async def work() -> None:
        lines = [b'{"uuid": "GPU-1", "xid": 79}\n', b'{"uuid": "GPU-2", "xid": 31}\nnonsense\n']
        done = asyncio.Event()

        def on_xid(uuid: str, number: int) -> None:
            seen.append((uuid, number))
            if len(seen) == 4:
                done.set()

        async with helper(tmp_path / "s", *lines) as asked:
            watching = asyncio.create_task(Gpu(tmp_path / "s").watch(on_xid))
            async with asyncio.timeout(20):
                await done.wait()
            watching.cancel()
        assert asked[:2] == [b"watch\n", b"watch\n"]

    asyncio.run(work())
    assert seen == [("GPU-1", 79), ("", 0), ("GPU-2", 31), ("", 0)]


@pytest.mark.parametrize(
    "report",
    [{"xid": [79]}, {"xid": {}}, {"xid": None}, {"xid": "79"}, {"xid": 79.5}, {"xid": True}, {"xid": -1},
     {"uuid": ["GPU-1"], "xid": 79}, {"uuid": "GPU\n1", "xid": 79}],
)  # fmt: skip
def test_a_report_that_makes_no_sense_ends_no_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: dict[str, object]
) -> None:
    """The helper is asked again, all GPUs are looked at (0), and the next error is heard of."""
    monkeypatch.setattr(gpu, "_RETRY_S", 0.0)
    seen: list[tuple[str, int]] = []

    async def work() -> None:
        lines = [json.dumps(each).encode() + b"\n" for each in (report, {"uuid": "GPU-1", "xid": 31})]
        done = asyncio.Event()

        def on_xid(uuid: str, number: int) -> None:
            seen.append((uuid, number))
            if number == 31:
                done.set()

        async with helper(tmp_path / "s", *lines):
            watching = asyncio.create_task(Gpu(tmp_path / "s").watch(on_xid))
            waiting = asyncio.create_task(done.wait())
            await asyncio.wait({watching, waiting}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            assert done.is_set()
            for task in (watching, waiting):
                task.cancel()

    asyncio.run(work())
    assert seen[:2] == [("", 0), ("GPU-1", 31)]


def test_records_outlive_the_process(tmp_path: Path) -> None:
    """What was held and learned is there after the file was opened anew, and only that."""
    database = Database(tmp_path / "db")
    first = GpuRecords(database)
    one, two = lease("a", "GPU-1", "GPU-2", unexplained=5), lease("b", "GPU-3", reserve=4.4)
    for each in (one, two):
        first.hold(each)
    first.hold(two.over(9.0))
    first.learn("a", Learned(7, 1.5))
    first.learn("b", Learned(8, 2.5))
    first.forget("b")
    database.close()
    database = Database(tmp_path / "db")
    second = GpuRecords(database)
    assert second.leases() == [one, two.over(9.0)]
    assert second.learned() == {"a": Learned(7, 1.5)}
    second.drop(one.unit)
    database.close()
    database = Database(tmp_path / "db")
    assert GpuRecords(database).leases() == [two.over(9.0)]
    database.close()
