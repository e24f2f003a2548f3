"""A lock per app, held by a deploy or start, or by a stop or deletion.

One of them runs at a time, and the newest request wins. A stop or deletion cancels a deploy; a deploy or start cancels
a stop or deletion that still waits for the app's last requests. The client of a cancelled verb gets an error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Any

from flyted.base import tasks
from flyted.contract.errors import Busy, DeployFailed, FlytedError
from flyted.contract.names import AppKey

DEPLOY = "a deploy"


@dataclass(eq=False)
class Operation:
    """A verb that has an app to itself.

    ``ends``: it stops or deletes the app. ``interrupts``: it cancelled a deploy. ``over``: set at its end.
    ``cancelled``: another verb has cancelled it. ``final``: there is no way back from what it does now. ``what``: what
    it is, for others who ask for the same app.
    """

    task: asyncio.Task[Any]
    ends: bool
    interrupts: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False
    final: bool = False
    what: str = DEPLOY

    async def finish(self, last: Awaitable[None]) -> None:
        """Do the step from which there is no way back, to its end: a client that leaves does not stop it."""
        self.final = True
        await tasks.whole(last)


class DeployLocks:
    """The verbs in progress, by app."""

    def __init__(self) -> None:
        self._locks: dict[AppKey, Operation] = {}

    @contextlib.asynccontextmanager
    async def hold(self, app: AppKey, what: str = DEPLOY) -> AsyncIterator[None]:
        """Run a deploy or start inside, in the task that enters, or other work (``what``) that keeps others away.

        Raises :class:`Busy` when another one holds the lock, or the app is being erased; :class:`DeployFailed` when
        another verb cancels this one: its task is cancelled, and must let the cancellation pass once it has undone
        what it began.
        """
        while (other := self._locks.get(app)) is not None:
            if not other.ends:
                raise Busy(
                    f"{other.what} of '{app}' is already in progress", hint="wait for it, or see flytectl app get"
                )
            if other.final:
                raise Busy(f"app '{app}' is being deleted", hint="try again in a moment")
            await _cancel(other)
        error = DeployFailed(
            f"the {what.partition(' ')[2]} of app '{app}' was cancelled: the app was stopped or deleted meanwhile",
            hint="serve its file again: flytectl serve FILE" if what == DEPLOY else "run the command again",
        )
        operation = _new(ends=False)
        operation.what = what
        async with self._held(app, operation, error):
            yield

    @contextlib.asynccontextmanager
    async def ending(self, app: AppKey) -> AsyncIterator[Operation]:
        """Run a stop or deletion inside, in the task that enters.

        A deploy in progress is cancelled; another stop or deletion is waited for. Raises :class:`Busy` when this one
        is cancelled.
        """
        interrupts = False
        while (other := self._locks.get(app)) is not None:
            if other.ends:
                await other.over.wait()
            else:
                await _cancel(other)
                interrupts = True
        operation = _new(ends=True)
        operation.interrupts = interrupts
        error = Busy(
            f"the operation was cancelled for app '{app}': it was served or started again meanwhile",
            hint=f"flytectl app get {app.name}",
        )
        async with self._held(app, operation, error):
            yield operation

    def cancelled(self, app: AppKey) -> bool:
        """Report whether the verb in progress was cancelled by another one."""
        operation = self._locks.get(app)
        return operation is not None and operation.cancelled

    @contextlib.asynccontextmanager
    async def _held(self, app: AppKey, operation: Operation, error: FlytedError) -> AsyncIterator[None]:
        """Hold the lock; raise ``error`` in place of a cancellation by another verb."""
        self._locks[app] = operation
        try:
            yield
        except asyncio.CancelledError:
            if not operation.cancelled:
                raise
            operation.task.uncancel()
            raise error from None
        finally:
            del self._locks[app]
            operation.over.set()


def _new(*, ends: bool) -> Operation:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a verb runs in a task")
    return Operation(task, ends)


async def _cancel(operation: Operation) -> None:
    """Cancel the verb in progress, and return when it has undone what it began."""
    if not operation.cancelled:
        operation.cancelled = True
        operation.task.cancel()
    await operation.over.wait()
