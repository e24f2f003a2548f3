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
    """Run ``work`` in a task beside the caller, and log what it raises, whether or not somebody awaits it.

    Errors of a type in ``known`` are not logged: they are an answer to somebody, who may have left.
    """
    task = asyncio.get_running_loop().create_task(work)
    _running.add(task)
    task.add_done_callback(lambda done: _ended(done, known))
    return task


def _ended(task: asyncio.Future[Any], known: tuple[type[Exception], ...]) -> None:
    _running.discard(task)
    error = None if task.cancelled() else task.exception()  # asked for: asyncio need not say that nobody did
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
    """Return what ``work`` returns. Cancel it and raise :class:`Left` if ``event`` comes first."""
    task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event)
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        waiting.result()  # raises if the event cannot be waited for
    finally:
        await end(task, waiting)
    raise Left


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks, and return when all have ended. What one raises instead of ending is logged."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    for task, error in zip(tasks, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
        if task in running and isinstance(error, Exception):  # a CancelledError is none
            log.error("a cancelled task failed", exc_info=error)
