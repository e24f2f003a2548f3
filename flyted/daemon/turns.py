"""Whose turn it is with an app: deploys and starts, which bring it up, or a stop or deletion, which ends it.

One of them at a time, and the newest wish wins: a stop or deletion calls off a deploy, a deploy or start calls off a
stop or deletion that still waits for the app's last requests. Whoever is called off is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Any

from flyted.contract.errors import Busy, DeployFailed, FlytedError
from flyted.contract.names import AppKey


@dataclass(eq=False)
class Turn:
    """A verb that has an app to itself. ``ends``: it stops or deletes it. ``interrupts``: it called off a deploy."""

    task: asyncio.Task[Any]
    ends: bool
    interrupts: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    called_off: bool = False
    final: bool = False

    async def finish(self, last: Awaitable[None]) -> None:
        """Does the step from which there is no way back, to its end: a client that leaves does not stop it."""
        self.final = True
        work = asyncio.ensure_future(last)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise


class Turns:
    """The verbs that are under way, by app."""

    def __init__(self) -> None:
        self._turns: dict[AppKey, Turn] = {}

    @contextlib.asynccontextmanager
    async def alone(self, app: AppKey) -> AsyncIterator[None]:
        """A deploy or start runs inside, in the task that enters.

        Raises :class:`Busy` when another one has the turn, or the app is being erased; :class:`DeployFailed` when
        this one is called off: it is cancelled, and lets that pass when it has undone what it began.
        """
        while (other := self._turns.get(app)) is not None:
            if not other.ends:
                raise Busy(f"a deploy of '{app}' is under way already", hint="wait for it, or look: flytectl app get")
            if other.final:
                raise Busy(f"app '{app}' is being deleted", hint="try again in a moment")
            await _call_off(other)
        error = DeployFailed(
            f"the deploy of app '{app}' was called off: somebody has stopped or deleted the app",
            hint="flytectl serve its file again",
        )
        async with self._held(app, _new(ends=False), error):
            yield

    @contextlib.asynccontextmanager
    async def ending(self, app: AppKey) -> AsyncIterator[Turn]:
        """A stop or deletion runs inside, in the task that enters. A deploy is called off; another stop is waited for.

        Raises :class:`Busy` when this one is called off.
        """
        interrupts = False
        while (other := self._turns.get(app)) is not None:
            if other.ends:
                await other.over.wait()
            else:
                await _call_off(other)
                interrupts = True
        turn = _new(ends=True)
        turn.interrupts = interrupts
        error = Busy(
            f"nothing more was done to app '{app}': somebody has served or started it again meanwhile",
            hint=f"flytectl app get {app.name}",
        )
        async with self._held(app, turn, error):
            yield turn

    def called_off(self, app: AppKey) -> bool:
        """Whether what is under way has been."""
        turn = self._turns.get(app)
        return turn is not None and turn.called_off

    @contextlib.asynccontextmanager
    async def _held(self, app: AppKey, turn: Turn, error: FlytedError) -> AsyncIterator[None]:
        """Has the turn; a cancellation that was a calling off becomes ``error``."""
        self._turns[app] = turn
        try:
            yield
        except asyncio.CancelledError:
            if not turn.called_off:
                raise
            turn.task.uncancel()
            raise error from None
        finally:
            del self._turns[app]
            turn.over.set()


def _new(*, ends: bool) -> Turn:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a verb runs in a task")
    return Turn(task, ends)


async def _call_off(turn: Turn) -> None:
    """Ends what is under way, and returns when it has undone what it began."""
    if not turn.called_off:
        turn.called_off = True
        turn.task.cancel()
    await turn.over.wait()
