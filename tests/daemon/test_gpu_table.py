"""The table of leases, the line, and what ``gpu ls`` says about them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flyted.contract.answers.gpus import GpuWait
from flyted.contract.errors import HostFailure
from flyted.contract.gpu import Ask
from flyted.contract.names import Replica
from flyted.daemon.gpus.queue import MAX_LINE, Waiting, WaitQueue
from flyted.daemon.gpus.status import gpu_list
from flyted.daemon.gpus.table import LeaseStore
from flyted.host.database import Database
from flyted.host.gpu_records import GpuRecords
from flyted.plan.facts import Facts
from flyted.plan.gpus.facts import Asking, GpuFacts, Learned
from tests.plan.gpus import GIB, gpu, lease, machine, process, unit


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """A way to open the file anew; each is closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(Database(tmp_path / "db")))


@pytest.fixture
def table(database: Callable[[], Database]) -> Callable[[], LeaseStore]:
    """A way to read the table anew."""
    return lambda: LeaseStore(GpuRecords(database()))


def test_a_lease_stays_until_its_memory_is_back(table: Callable[[], LeaseStore]) -> None:
    """And a new daemon sees the same."""
    mine = table()
    mine.hold(lease("a", "1"))
    mine.end(lease("a", "1", ended=5.0))
    assert mine.running == ()
    assert not mine.drop_returned(machine(gpu("1", used=9)))
    assert table().leases == mine.leases != ()
    assert mine.drop_returned(machine(gpu("1")))
    assert table().leases == ()


def test_the_highest_peak_is_remembered(table: Callable[[], LeaseStore]) -> None:
    """Of those who hold a lease; until the app is gone, or did not start with it."""
    mine = table()
    mine.hold(lease("a", "1"))
    for gib in (2, 6, 4):
        mine.learn_peaks(machine(gpu("1", processes=(process(unit("a"), gib), process(unit("b"), 9)))))
    mine.learn_load("a", 12.5)
    assert table().learned_all == {"a": Learned(6 * GIB, 12.5)}
    mine.forget_all_but({"a"})
    assert mine.learned("a").peak_bytes == 6 * GIB
    mine.forget_all_but({"b"})
    assert table().learned("a") == Learned()


def test_a_grant_that_cannot_be_kept_is_none_and_an_end_counts(database: Callable[[], Database]) -> None:
    """The disk refuses each write: what is only learned, or over, must not be in the way of what goes on."""
    opened = database()
    mine = LeaseStore(GpuRecords(opened))
    mine.hold(lease("a", "1"))
    opened._db.execute("PRAGMA query_only = ON")
    with pytest.raises(HostFailure, match="readonly"):
        mine.hold(lease("b", "2"))
    mine.learn_peaks(machine(gpu("1", processes=(process(unit("a"), 2),))))
    assert mine.learned("a").peak_bytes == 2 * GIB
    mine.end(lease("a", "1", ended=5.0))
    assert mine.drop_returned(machine(gpu("1")))
    assert mine.leases == ()


def test_the_line_has_a_bound_and_a_unit_one_place() -> None:
    """A start that is tried again takes the place of the one before, which gets an answer that nobody reads."""

    async def work() -> None:
        line, loop = WaitQueue(), asyncio.get_running_loop()
        first = [Waiting(Replica("a", n), Ask(1), loop.create_future()) for n in range(MAX_LINE)]
        for each in first:
            line.join(each)
        assert line.full
        again = Waiting(Replica("a", 0), Ask(1), loop.create_future())
        line.join(again)
        assert first[0].answer.done()
        assert line.waiting == [*first[1:], again]
        line.leave(first[0])
        assert len(line) == MAX_LINE

    asyncio.run(work())


def test_each_state_has_its_word() -> None:
    """Free, held, returning, split, broken; holders with what they use, what they may, and what has not come back."""
    there = machine(
        gpu("1"),
        gpu("2", processes=(process(unit("a"), 2),)),
        gpu("3", used=3),
        gpu("4", split=True, partitions=(gpu("5", profile="1g.5gb"),)),
        gpu("6", error="GPU is lost"),
    )
    leases = (lease("a", "2", reserve=4), lease("b", "3", ended=5.0), lease("c", "5"))
    waits = Asking(Replica("d", 1), Ask(1), "needs 1 × GPU")
    said = gpu_list(there, Facts((), {}, gpu=GpuFacts(leases, asking=(waits,))))
    assert [gpu.state for gpu in said.gpus] == ["free", "held", "returning", "split", "broken"]
    held, returning = said.gpus[1].holders[0], said.gpus[2].holders[0]
    assert (held.app, held.used_bytes, held.reserved_bytes) == ("a", 2 * GIB, 4 * GIB)
    assert (returning.used_bytes, returning.ended_at) == (3 * GIB, 5.0)
    assert [lease.app for lease in said.gpus[3].partitions[0].holders] == ["c"]
    assert said.waiting == (GpuWait(unit("d"), "needs 1 × GPU"),)
