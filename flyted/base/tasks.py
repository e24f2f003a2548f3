"""Runs background tasks: keeps each until it ends, and logs its error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

_running: set[asyncio.Future[Any]] = set()  # asyncio itself keeps a task no longer than the collector likes


class Left(Exception):
    """Raised by :func:`until`: the event came before the work ended."""


def begin(work: Coroutine[Any, Any, T], *, known: tuple[type[Exception], ...] = ()) -> asyncio.Task[T]:
    """Run ``work`` in a task beside the caller, and log what it raises, whether or not it is awaited.

    Errors of a type in ``known`` are not logged: they are the answer to a caller, who may have left.
    """
    task = asyncio.get_running_loop().create_task(work)
    _running.add(task)
    task.add_done_callback(lambda done: _ended(done, known))
    return task


def _ended(task: asyncio.Future[Any], known: tuple[type[Exception], ...]) -> None:
    _running.discard(task)
    error = None if task.cancelled() else task.exception()  # retrieved, so that asyncio does not log that it was not
    if error is not None and not isinstance(error, known):
        log.error("a background task failed", exc_info=error)


async def whole(work: Awaitable[T]) -> T:
    """Return what ``work`` returns. If the caller is cancelled, the cancellation waits for the work's end."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        _ended(task, ())
        raise


async def until(event: Awaitable[object], work: Awaitable[T]) -> T:
    """Return what ``work`` returns. Cancel it and raise :class:`Left` if ``event`` comes first.

    No other task runs between the end of the work and the caller's next step: what the work has held until then is
    the caller's.
    """
    task = asyncio.current_task()
    waiting = asyncio.ensure_future(event)
    _running.add(waiting)
    waiting.add_done_callback(_running.discard)
    came = over = False

    def cancel(_waiting: asyncio.Future[object]) -> None:
        nonlocal came
        if task is not None and not over:
            came = task.cancel()

    waiting.add_done_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if not came or (task is not None and task.uncancel()):  # somebody else cancels the caller, too
            raise
        waiting.result()  # raises if the event cannot be waited for
        raise Left from None
    finally:
        over = True
        waiting.cancel()


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks, and return when all have ended. What one raises instead of ending is logged."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    for task, error in zip(tasks, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
        if task in running and isinstance(error, Exception):  # a CancelledError is none
            log.error("a cancelled task failed", exc_info=error)
