"""The units that build something, on the machine in memory: they run once, and go on without flyted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flyted.plan.facts import UnitEnd

OUTPUT = "StandardOutputFileDescriptor"
Work = Callable[[str, Mapping[str, Any]], Awaitable[UnitEnd]]


class Steps:
    """The units that run now.

    ``own``: the tasks of the machine, which flyted's end does not end. ``tell``: tells the daemon that a unit changed.
    """

    def __init__(self, own: set[asyncio.Task[Any]], tell: Callable[[str], None]) -> None:
        self._own = own
        self._tell = tell
        self._running: dict[str, asyncio.Task[UnitEnd]] = {}
        self.stopped: list[str] = []  # the units that flyted has stopped

    @property
    def names(self) -> set[str]:
        """The names of those that run."""
        return set(self._running)

    async def ended(self, name: str) -> None:
        """Wait for the end of a unit of this name, if there is one."""
        if (step := self._running.get(name)) is not None:
            await asyncio.wait([step])

    def begin(self, name: str, wanted: Mapping[str, Any], work: Work) -> asyncio.Task[UnitEnd]:
        """Begin a unit, which has its end of the pipe to itself."""
        assert name not in self._running, name
        if wanted.get(OUTPUT) is not None:
            wanted = {**wanted, OUTPUT: os.dup(wanted[OUTPUT])}
        step = asyncio.get_running_loop().create_task(self._run(name, wanted, work))
        self._running[name] = step
        self._own.add(step)
        step.add_done_callback(lambda _step: self._over(name, wanted))
        return step

    async def _run(self, name: str, wanted: Mapping[str, Any], work: Work) -> UnitEnd:
        try:
            return await work(name, wanted)
        except asyncio.CancelledError:
            return UnitEnd("signal", 9)

    def _over(self, name: str, wanted: Mapping[str, Any]) -> None:
        self._own.discard(self._running.pop(name))
        self._tell(name)
        if wanted.get(OUTPUT) is not None:
            os.close(wanted[OUTPUT])

    def kill(self, name: str) -> None:
        """Somebody kills all processes of a unit: what it has made by then is left."""
        self._running[name].cancel()

    async def stop(self, name: str, job_s: float) -> None:
        """flyted has a unit stopped, and waits for that."""
        if (step := self._running.get(name)) is not None:
            self.stopped.append(name)
            await asyncio.sleep(job_s)
            step.cancel()
            await asyncio.wait([step])


def say(wanted: Mapping[str, Any], *lines: str) -> None:
    """Print lines; nobody hears them once flyted is gone."""
    for line in lines:
        try:
            os.write(wanted[OUTPUT], f"{line}\n".encode())
        except BrokenPipeError:
            return
