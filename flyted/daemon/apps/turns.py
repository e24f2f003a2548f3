"""Whose turn it is with an app: a deploy's or start's, which brings it up, or a stop's or deletion's, which ends it.

One of them runs at a time, and the newest wish wins. A stop or deletion calls off a deploy; a deploy or start calls
off a stop or deletion that still waits for the app's last requests. The client of a verb that is called off is told.
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


@dataclass(eq=False)
class Turn:
    """A verb that has an app to itself.

    ``ends``: it stops or deletes the app. ``interrupts``: it called off a deploy. ``over``: set at its end.
    ``called_off``: another verb has called it off. ``final``: there is no way back from what it does now.
    """

    task: asyncio.Task[Any]
    ends: bool
    interrupts: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    called_off: bool = False
    final: bool = False

    async def finish(self, last: Awaitable[None]) -> None:
        """Do the step from which there is no way back, to its end: a client that leaves does not stop it."""
        self.final = True
        await tasks.whole(last)


class Turns:
    """The verbs that are under way, by app."""

    def __init__(self) -> None:
        self._turns: dict[AppKey, Turn] = {}

    @contextlib.asynccontextmanager
    async def alone(self, app: AppKey) -> AsyncIterator[None]:
        """Run a deploy or start inside, in the task that enters.

        Raises :class:`Busy` when another one has the turn, or the app is being erased; :class:`DeployFailed` when
        this one is called off: its task is cancelled, and must let the cancellation pass once it has undone what it
        began.
        """
        while (other := self._turns.get(app)) is not None:
            if not other.ends:
                raise Busy(f"a deploy of '{app}' is already in progress", hint="wait for it, or see flytectl app get")
            if other.final:
                raise Busy(f"app '{app}' is being deleted", hint="try again in a moment")
            await _call_off(other)
        error = DeployFailed(
            f"the deploy of app '{app}' was cancelled: the app was stopped or deleted meanwhile",
            hint="flytectl serve its file again",
        )
        async with self._held(app, _new(ends=False), error):
            yield

    @contextlib.asynccontextmanager
    async def ending(self, app: AppKey) -> AsyncIterator[Turn]:
        """Run a stop or deletion inside, in the task that enters.

        A deploy under way is called off; another stop or deletion is waited for. Raises :class:`Busy` when this one
        is called off.
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
            f"the rest was cancelled for app '{app}': it was served or started again meanwhile",
            hint=f"flytectl app get {app.name}",
        )
        async with self._held(app, turn, error):
            yield turn

    def called_off(self, app: AppKey) -> bool:
        """Report whether the verb under way was called off."""
        turn = self._turns.get(app)
        return turn is not None and turn.called_off

    @contextlib.asynccontextmanager
    async def _held(self, app: AppKey, turn: Turn, error: FlytedError) -> AsyncIterator[None]:
        """Hold the turn; raise ``error`` in place of a cancellation that was a calling off."""
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
    """Call off the verb under way, and return when it has undone what it began."""
    if not turn.called_off:
        turn.called_off = True
        turn.task.cancel()
    await turn.over.wait()
