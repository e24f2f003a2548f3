"""Runs builds that callers wait for, each at most once at a time: images, layers, and pulls of container images.

Which begin, and when, is decided in plan/upkeep.py. Each runs in units of its own, and their output streams to all who
wait. When the last of them leaves, the build is cancelled, and its unit is stopped. Those that it waits for are then
cancelled in the same way, unless somebody else waits for them too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, TypeVar, cast

from flyted.contract.answers.events import BUILD, STEP, Event, Progress
from flyted.contract.errors import BuildFailed, FlytedError
from flyted.daemon.api.outbox import Patience
from flyted.daemon.api.verbs import Emit, to_nobody
from flyted.daemon.effects import Units
from flyted.daemon.images.earlier import EarlierUnits
from flyted.host.output import lines_to
from flyted.plan.actions import BuildAction
from flyted.plan.facts import UnitEnd

OUTPUT_LINES = 200
_T = TypeVar("_T")
Work = Callable[[Emit], Coroutine[Any, Any, Any]]


class Build:
    """A build from the first request for it to its end, and the callers that watch it.

    ``ended``: what it made, or why nothing; cancelled if it was cancelled, or if flyted ends. ``left``: called when
    nobody waits any more and it has not ended.

    Watchers that do not read delay it as long as one of them would (:class:`Patience`), however many they are.
    """

    def __init__(self, work: Work, left: Callable[[], None]) -> None:
        self._work = work
        self._left = left
        self._watchers: list[Emit] = []
        self._patience = Patience()
        self._task: asyncio.Task[Any] | None = None
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def watched(self, emit: Emit, first: str) -> Any:
        """Return what the build makes; ``first`` and what is said on the way go to ``emit``.

        Raises what made the build fail.
        """
        self._watchers.append(emit)  # before anything is awaited: the others may leave meanwhile
        try:
            if first:
                await emit(Progress(STEP, first))
            return await asyncio.shield(self.ended)
        except BuildFailed as error:  # an error for each caller: the traceback of a shared one would grow
            raise BuildFailed(error.message, hint=error.hint) from error
        finally:
            self._watchers.remove(emit)
            if not self._watchers and not self.ended.done():
                self._left()

    async def carry_out(self) -> None:
        """Do the work for all waiting callers. Raises what it raises."""
        if self.ended.done():  # cancelled before its turn
            return
        self._task = asyncio.current_task()
        try:
            self.ended.set_result(await self._work(self._emit))
        except Exception as error:
            self.fail(error)
            raise
        finally:
            self.ended.cancel()  # it was cancelled, or flyted ends; else it is done

    def cancel(self) -> None:
        """End the work: its unit is stopped, and then it has ended."""
        if self._task is None:
            self.ended.cancel()
        else:
            self._task.cancel()

    def fail(self, error: Exception) -> None:
        """Raise the error in all waiting callers."""
        self.ended.set_exception(error)
        self.ended.exception()  # retrieved: there may be no caller

    async def _emit(self, event: Event) -> None:
        """Tell all watchers at once; leave the event out for those that are still behind when no patience is left."""
        told = [asyncio.ensure_future(emit(event)) for emit in self._watchers]
        try:
            if told and (await asyncio.wait(told, timeout=0))[1]:
                await self._patience.wait(asyncio.wait(told))
        finally:
            late = [each for each in told if each.cancel()]
        for each in told:
            if each not in late:
                each.result()


class Builds:
    """The builds that are requested or in progress, by their action. ``poke``: requests a pass of the loop."""

    def __init__(self, units: Units, poke: Callable[[], None]) -> None:
        self.earlier = EarlierUnits(units)
        self._poke = poke
        self._builds: dict[BuildAction, Build] = {}

    @property
    def wanted(self) -> frozenset[BuildAction]:
        """Whatever somebody waits for."""
        return frozenset(self._builds)

    async def get(
        self,
        action: BuildAction,
        what: str,
        emit: Emit,
        work: Callable[[Emit], Coroutine[Any, Any, _T]],
        until: Callable[[asyncio.Future[Any]], object] = lambda _ended: None,
    ) -> _T:
        """Return the result of ``work``, which the loop begins; two requests at a time share the first one's work.

        ``what``: its name for people. ``until``: called with the end of ``work``, if it is begun. Raises what ``work``
        raises, and the reason if it cannot begin.
        """
        build = self._builds.get(action)
        first = f"{what} is already being built; waiting for it" if build is not None else ""
        if build is None:
            build = self._builds[action] = Build(work, lambda: self._cancel(action))
            until(build.ended)
            self._poke()
        return cast("_T", await build.watched(emit, first))

    def carry_out(self, action: BuildAction) -> Coroutine[Any, Any, None]:
        """Return what builds what somebody waits for now. It raises what they are told too."""
        return self._carry_out(action, self._builds[action])

    async def _carry_out(self, action: BuildAction, build: Build) -> None:
        try:
            await build.carry_out()
        finally:
            if self._builds.get(action) is build:  # else it was cancelled, and it may be wanted again
                del self._builds[action]

    def _cancel(self, action: BuildAction) -> None:
        """End a build for which nobody waits; who wants it from now on has it done again, once it has ended."""
        self._builds.pop(action).cancel()
        self._poke()

    def refuse(self, error: FlytedError, begun: Collection[object]) -> None:
        """Raise an error in the callers that wait for a build that is not in ``begun``: it cannot begin."""
        for action in [each for each in self._builds if each not in begun]:
            self._builds.pop(action).fail(error)


async def run_unit(
    units: Units, name: str, wanted: Callable[[int], Mapping[str, Any]], emit: Emit = to_nobody
) -> tuple[UnitEnd, list[str]]:
    """Run a unit to its end; return how it ended, and the last lines of its output, which goes to ``emit`` too.

    ``wanted``: makes its properties, for a pipe to print to. Raises :class:`HostFailure` when it cannot be created.
    """
    lines: deque[str] = deque(maxlen=OUTPUT_LINES)

    async def heard(text: str) -> None:
        lines.append(text)
        await emit(Progress(BUILD, text))

    async with lines_to(heard) as pipe:
        end = await units.run_transient(name, wanted(pipe))
    return end, list(lines)
