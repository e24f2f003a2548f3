"""Builds what somebody waits for, each once at a time: images, layers, and pulls of container images.

Which begin, and when, is decided in plan/upkeep.py. Each runs in units of its own, and their output streams to all who
wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, TypeVar, cast

from flyted.contract.answers.events import BUILD, STEP, Event, Progress
from flyted.contract.errors import BuildFailed, FlytedError
from flyted.daemon.api.verbs import Emit
from flyted.daemon.effects import Units
from flyted.host.output import lines_to
from flyted.plan.actions import BuildAction
from flyted.plan.facts import UnitEnd

OUTPUT_LINES = 200
_T = TypeVar("_T")
Work = Callable[[Emit], Coroutine[Any, Any, Any]]


class Build:
    """Something that somebody waits for, from then to the end of its build, and who watches it.

    It goes on when they leave: what it makes will be wanted soon again. ``ended``: what it made, or why nothing.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._watchers: list[Emit] = []
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def watched(self, emit: Emit) -> Any:
        """Return what the build makes; what is said on the way goes to ``emit``. Raises what made the build fail."""
        self._watchers.append(emit)
        try:
            return await asyncio.shield(self.ended)
        except BuildFailed as error:  # one error for each who waits: the traceback of a shared one would grow
            raise BuildFailed(error.message, hint=error.hint) from error
        finally:
            self._watchers.remove(emit)

    async def carry_out(self) -> None:
        """Do the work for all who wait. Raises what it raises."""
        try:
            self.ended.set_result(await self._work(self._emit))
        except Exception as error:
            self.fail(error)
            raise
        finally:
            self.ended.cancel()  # flyted ends; else it is done

    def fail(self, error: Exception) -> None:
        """Tell all who wait that there will be nothing."""
        self.ended.set_exception(error)
        self.ended.exception()  # asked for: there may be nobody

    async def _emit(self, event: Event) -> None:
        for emit in list(self._watchers):
            await emit(event)


class Builds:
    """What is wanted or under way, by the action that makes it. ``poke``: asks for a pass of the loop."""

    def __init__(self, poke: Callable[[], None]) -> None:
        self._poke = poke
        self._builds: dict[BuildAction, Build] = {}

    @property
    def wanted(self) -> frozenset[BuildAction]:
        """Whatever somebody waits for, or is under way."""
        return frozenset(self._builds)

    async def get(
        self,
        action: BuildAction,
        what: str,
        emit: Emit,
        work: Callable[[Emit], Coroutine[Any, Any, _T]],
        until: Callable[[asyncio.Future[Any]], object] = lambda _ended: None,
    ) -> _T:
        """Return what ``work`` makes, which the loop begins; of two who ask at a time, the first one's is done.

        ``what``: its name for people. ``until``: is given the end of ``work``, if it is begun. Raises what ``work``
        raises, and why it cannot begin.
        """
        build = self._builds.get(action)
        if build is not None:
            await emit(Progress(STEP, f"{what} is already being built; waiting for it"))
        else:
            build = self._builds[action] = Build(work)
            until(build.ended)
            self._poke()
        return cast("_T", await build.watched(emit))

    async def carry_out(self, action: BuildAction) -> None:
        """Build what somebody waits for. Raises what they are told too."""
        try:
            await self._builds[action].carry_out()
        finally:
            del self._builds[action]

    def refuse(self, error: FlytedError, begun: Collection[object]) -> None:
        """Tell those who wait for a build that is not in ``begun`` that it cannot begin."""
        for action in [each for each in self._builds if each not in begun]:
            self._builds.pop(action).fail(error)


async def run_unit(
    units: Units, name: str, wanted: Callable[[int], Mapping[str, Any]], emit: Emit
) -> tuple[UnitEnd, list[str]]:
    """Run a unit to its end; return how it ended, and the last lines of its output, which goes to ``emit`` too.

    ``wanted``: makes its properties, for a pipe to print to. Raises :class:`HostFailure` when it cannot be made.
    """
    lines: deque[str] = deque(maxlen=OUTPUT_LINES)

    async def heard(text: str) -> None:
        lines.append(text)
        await emit(Progress(BUILD, text))

    async with lines_to(heard) as pipe:
        end = await units.run_transient(name, wanted(pipe))
    return end, list(lines)
