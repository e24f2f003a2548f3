"""What a client is told waits for it outside of the work that tells it: a slow reader holds up nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial

import pytest

from flyted.contract import wire
from flyted.contract.answers.events import BUILD, Progress
from flyted.daemon.api import outbox
from flyted.daemon.api.outbox import ClientGone, Outbox
from flyted.daemon.images.builds import Build
from tests.daemon import event_loop

LINE = wire.encode({"event": Progress(BUILD, "x" * 1000)})


class Reader:
    """A client that reads a frame when a test lets it."""

    def __init__(self) -> None:
        self.may_read = asyncio.Semaphore(0)
        self.read: list[bytes] = []
        self.gone = False

    async def __call__(self, frame: bytes) -> None:
        await self.may_read.acquire()
        if self.gone:
            raise ClientGone
        self.read.append(frame)

    def reads(self, frames: int) -> None:
        for _ in range(frames):
            self.may_read.release()

    @property
    def texts(self) -> list[str]:
        return [str(wire.decode(frame[4:], trusted=True)["event"]["text"]) for frame in self.read]


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(bounded())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long, and little is held."""
    monkeypatch.setattr(outbox, "PATIENCE_S", 0.1)
    monkeypatch.setattr(outbox, "MOST_BYTES", 10 * len(LINE))


def test_frames_come_in_order_and_all_before_the_last_word() -> None:
    async def work() -> None:
        reader = Reader()
        box = Outbox(reader)
        frames = [bytes([number]) * 100 for number in range(50)]
        for frame in frames:
            await box.put(frame)
        assert reader.read == []
        reader.reads(50)
        await box.sent()
        assert reader.read == frames

    run(work())


def test_one_that_reads_in_time_misses_nothing(impatient: None) -> None:
    """Who adds waits for it as long as there is patience."""

    async def work() -> None:
        reader = Reader()
        box = Outbox(reader)

        async def read() -> None:
            for _ in range(100):
                await asyncio.sleep(0)
                reader.reads(1)

        reading = asyncio.ensure_future(read())
        for _ in range(100):
            await box.put(LINE)
        await reading
        await box.sent()
        assert reader.read == [LINE] * 100

    run(work())


def test_one_that_does_not_is_told_what_it_missed(impatient: None) -> None:
    """The patience is spent once, however many frames there are; later ones come again, after a line that says it."""

    async def work() -> None:
        reader = Reader()
        box = Outbox(reader)
        began = asyncio.get_running_loop().time()
        for _ in range(1000):
            await box.put(LINE)
        assert asyncio.get_running_loop().time() - began < 5
        reader.reads(8)
        for _ in range(100):
            await asyncio.sleep(0)
        await box.put(LINE)
        reader.reads(1000)
        await box.sent()
        texts = reader.texts
        assert len(texts) == 12
        assert texts[10] == "990 lines are left out here: they came faster than they were read"
        assert set(texts[:10]) == {texts[11]} == {"x" * 1000}

    run(work())


def test_what_is_missing_at_the_end_is_told_too(impatient: None) -> None:
    async def work() -> None:
        reader = Reader()
        box = Outbox(reader)
        for _ in range(12):
            await box.put(LINE)
        reader.reads(1000)
        await box.sent()
        assert reader.texts[10:] == ["2 lines are left out here: they came faster than they were read"]

    run(work())


def test_a_frame_whose_caller_is_cancelled_is_missing_and_told(impatient: None) -> None:
    """Also if room comes at the same moment."""

    async def work() -> None:
        reader = Reader()
        box = Outbox(reader)
        for _ in range(10):
            await box.put(LINE)
        waiting = asyncio.ensure_future(box.put(LINE))
        await asyncio.sleep(0)
        reader.reads(1000)
        while not box._fits(LINE):  # noqa: ASYNC110  who waits for the event comes too late
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await box.sent()
        assert waiting.cancelled()
        assert reader.texts[10:] == ["1 lines are left out here: they came faster than they were read"]

    run(work())


def test_one_that_leaves_stops_nobody() -> None:
    """What is added after that goes nowhere, and who wants to know whether it was read is told."""

    async def work() -> None:
        reader = Reader()
        box = Outbox(reader)
        await box.put(LINE)
        reader.gone = True
        reader.reads(1)
        with pytest.raises(ClientGone):
            await box.sent()
        for _ in range(5000):
            await box.put(LINE)
        with pytest.raises(ClientGone):
            await box.sent()
        assert reader.read == []

    run(work())


def test_a_slow_watcher_holds_up_no_build_that_others_wait_for(impatient: None) -> None:
    """Two share a build of 500 lines, and one of them reads nothing."""

    async def work() -> None:
        slow, quick = Reader(), Reader()
        quick.reads(10_000)
        boxes = Outbox(slow), Outbox(quick)

        async def emit_to(box: Outbox, event: object) -> None:
            await box.put(wire.encode({"event": event}))

        async def lines(emit: object) -> str:
            for number in range(500):
                await emit(Progress(BUILD, f"line {number}"))  # type: ignore[operator]
            return "made"

        build = Build(lines, lambda: None)
        watching = [asyncio.ensure_future(build.watched(partial(emit_to, box), "")) for box in boxes]
        await asyncio.sleep(0)
        await build.carry_out()
        assert await asyncio.gather(*watching) == ["made", "made"]
        await boxes[1].sent()
        assert quick.texts == [f"line {number}" for number in range(500)]
        boxes[0].close()

    run(work())


def test_watchers_that_come_one_after_the_other_hold_up_a_build_no_longer_than_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of ten joins when there is no patience left with those before it, and reads nothing; one reads all."""
    monkeypatch.setattr(outbox, "MOST_BYTES", 10 * len(LINE))

    async def work() -> None:
        quick, others = Reader(), [Reader() for _ in range(10)]
        quick.reads(10_000)
        boxes = [Outbox(reader) for reader in (quick, *others)]
        watching: list[asyncio.Future[str]] = []

        async def emit_to(box: Outbox, event: object) -> None:
            await box.put(wire.encode({"event": event}))

        def join(box: Outbox) -> None:
            watching.append(asyncio.ensure_future(build.watched(partial(emit_to, box), "")))

        async def lines(emit: object) -> str:
            for number in range(500):
                if number % 50 == 0:
                    join(boxes[number // 50 + 1])
                    await asyncio.sleep(0)
                await emit(Progress(BUILD, f"line {number} {'x' * 1000}"))  # type: ignore[operator]
            return "made"

        build = Build(lines, lambda: None)
        join(boxes[0])
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await build.carry_out()
        assert asyncio.get_running_loop().time() - began == pytest.approx(outbox.PATIENCE_S)
        assert await asyncio.gather(*watching) == ["made"] * 11
        await boxes[0].sent()
        assert [text.partition(" x")[0] for text in quick.texts] == [f"line {number}" for number in range(500)]
        others[-1].reads(10_000)
        await boxes[-1].sent()
        texts = [text for text in others[-1].texts if not text.startswith("line ")]
        gap = f"{50 - len(others[-1].texts) + 1} lines are left out here: they came faster than they were read"
        assert texts == [gap]
        for box in boxes:
            box.close()

    event_loop.run(work())
