"""Background tasks: their errors are logged, never lost; what has to end does."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import pytest

from flyted.base import tasks


async def fail(text: str = "broken") -> None:
    raise ValueError(text)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 10))


def test_an_error_that_nobody_awaits_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback, as soon as the task ends: not whenever the task is collected, or never."""

    async def story() -> None:
        kept = tasks.begin(fail())
        await asyncio.sleep(0.01)
        assert "broken" in caplog.text
        assert kept.done()

    run(story())


def test_an_error_that_somebody_is_told_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It is an answer; and the caller still gets it."""

    async def story() -> None:
        with pytest.raises(ValueError, match="broken"):
            await tasks.begin(fail(), known=(ValueError,))

    run(story())
    assert not caplog.records


def test_a_task_is_not_collected_while_it_runs() -> None:
    """asyncio keeps no reference of its own to a task that waits for what nobody else holds."""
    ended = []

    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    async def story() -> None:
        tasks.begin(work()).add_done_callback(lambda _task: ended.append("collected"))
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        assert not ended

    run(story())


def test_a_cancellation_waits_for_the_end_of_what_must_be_whole() -> None:
    """Its caller learns of it afterwards."""
    done = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.append("whole")

    async def story() -> None:
        task = asyncio.create_task(tasks.whole(work()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == ["whole"]

    run(story())


def test_what_must_be_whole_and_fails_unheard_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its caller has been cancelled, and learns nothing."""

    async def work() -> None:
        await asyncio.sleep(0.02)
        await fail()

    async def story() -> None:
        task = asyncio.create_task(tasks.whole(work()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(story())
    assert "broken" in caplog.text


def test_work_is_done_until_something_happens() -> None:
    """Its result or its error if it ends first, else Left, and the work has ended too."""
    ended = []

    async def work() -> str:
        try:
            await asyncio.sleep(0.02)
        finally:
            ended.append(True)
        return "done"

    async def story() -> None:
        assert await tasks.until(asyncio.sleep(9), work()) == "done"
        with pytest.raises(ValueError, match="broken"):
            await tasks.until(asyncio.sleep(9), fail())
        with pytest.raises(tasks.Left):
            await tasks.until(asyncio.sleep(0.001), work())
        with pytest.raises(ValueError, match="event"):
            await tasks.until(fail("event"), work())

    run(story())
    assert len(ended) == 3


def test_nothing_comes_between_the_end_of_work_and_its_caller() -> None:
    """Neither another task nor the event, at whatever moment it comes: one of the two is what happened."""
    seen: list[str] = []

    async def other() -> None:
        while True:
            seen.append("other")
            await asyncio.sleep(0)

    async def after(steps: int, word: str = "") -> None:
        for _ in range(steps):
            await asyncio.sleep(0)
        seen.append(word)

    async def story(steps: int) -> None:
        try:
            await tasks.until(after(steps), after(5, "worked"))
            seen.append("done")
        except tasks.Left:
            seen.append("left")
        await asyncio.sleep(0)  # no cancellation is left over

    async def stories() -> None:
        beside = asyncio.create_task(other())
        for steps in range(12):
            await asyncio.create_task(story(steps))
        await tasks.end(beside)

    run(stories())
    ends = [word for word in seen if word in ("done", "left")]
    assert {"done", "left"} == set(ends)
    assert all(seen[place + 1] == "done" for place, word in enumerate(seen) if word == "worked")
    assert seen.count("worked") == ends.count("done")


def test_who_is_cancelled_while_work_is_done_is_cancelled() -> None:
    """Also if the event comes at the same time: whoever cancelled it must not be told of a departure."""

    async def story() -> None:
        gone = asyncio.Event()
        task = asyncio.create_task(tasks.until(gone.wait(), asyncio.sleep(9)))
        await asyncio.sleep(0.01)
        gone.set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(story())


def test_an_error_at_a_cancellation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever called the work off asks for no result."""

    async def work() -> None:
        try:
            await asyncio.sleep(9)
        finally:
            await fail("while it cleaned up")

    async def story() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        await tasks.end(task)

    run(story())
    assert "while it cleaned up" in caplog.text
