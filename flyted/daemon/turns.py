"""One deploy of an app at a time; who stops or deletes the app meanwhile calls it off, and goes on when it is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from flyted.contract.errors import Busy, DeployFailed
from flyted.contract.names import AppKey


@dataclass
class _Turn:
    task: asyncio.Task[Any]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    called_off: bool = False


class Turns:
    """The deploys that are under way, by app."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    @contextlib.asynccontextmanager
    async def alone(self, app: AppKey) -> AsyncIterator[None]:
        """A deploy runs inside, in the task that enters.

        Raises :class:`Busy` when another has the turn, and :class:`DeployFailed` when this one is called off: it is
        cancelled, and lets that pass when it has undone what it began.
        """
        if app.id in self._turns:
            raise Busy(f"a deploy of '{app}' is under way already", hint="wait for it, or look: flytectl app get")
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deploy runs in a task")
        turn = self._turns[app.id] = _Turn(task)
        try:
            yield
        except asyncio.CancelledError:
            if not turn.called_off:
                raise
            task.uncancel()
            raise DeployFailed(
                f"the deploy of app '{app}' was called off: somebody has stopped or deleted the app",
                hint="flytectl serve its file again",
            ) from None
        finally:
            del self._turns[app.id]
            turn.over.set()

    def called_off(self, app_id: str) -> bool:
        """Whether the deploy that is under way has been."""
        turn = self._turns.get(app_id)
        return turn is not None and turn.called_off

    async def call_off(self, app: AppKey) -> bool:
        """Ends a deploy that is under way, and returns when it has undone what it began. Whether there was one."""
        turn = self._turns.get(app.id)
        if turn is None:
            return False
        if not turn.called_off:
            turn.called_off = True
            turn.task.cancel()
        await turn.over.wait()
        return True
