"""Builds images in units of their own, whose output streams to all who wait for it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Coroutine
from typing import Any

from flyted.build.words import EX_ISOLATED
from flyted.contract.answers.events import BUILD, STEP, Event, Progress
from flyted.contract.errors import BuildFailed
from flyted.daemon.api.verbs import Emit
from flyted.daemon.effects import Units
from flyted.host.network import nameservers
from flyted.host.output import lines_to
from flyted.plan.facts import ImageFact, UnitEnd
from flyted.plan.images.build_unit import (
    BuildSettings,
    build_failure,
    build_unit,
    loopback_nameservers,
    remove_unit,
    repeats,
    unit_name,
)
from flyted.plan.images.recipe import Recipe

_OUTPUT_LINES = 200


class Build:
    """An image that somebody waits for, from then to the end of its build, and who watches it.

    It goes on when they leave: its image will be wanted soon again. ``what``: the image's name for people.
    ``ended``: the image, or why there is none.
    """

    def __init__(self, recipe: Recipe, what: str) -> None:
        self.recipe = recipe
        self.what = what
        self._watchers: list[Emit] = []
        self.ended: asyncio.Future[ImageFact] = asyncio.get_running_loop().create_future()

    async def watched(self, emit: Emit) -> ImageFact:
        """Return the build's image; what is said on the way goes to ``emit``. Raises what made the build fail."""
        self._watchers.append(emit)
        try:
            return await asyncio.shield(self.ended)
        except BuildFailed as error:  # one error for each who waits: the traceback of a shared one would grow
            raise BuildFailed(error.message, hint=error.hint) from error
        finally:
            self._watchers.remove(emit)

    async def carry_out(self, work: Coroutine[Any, Any, ImageFact]) -> None:
        """Do the work, whose result is the image, or why there is none, for all who wait. Raises what it raises."""
        try:
            self.ended.set_result(await work)
        except Exception as error:
            self.fail(error)
            raise
        finally:
            self.ended.cancel()  # flyted ends; else it is done

    def fail(self, error: Exception) -> None:
        """Tell all who wait that there will be no image."""
        self.ended.set_exception(error)
        self.ended.exception()  # asked for: there may be nobody

    async def emit(self, event: Event) -> None:
        """Tell all who watch."""
        for emit in list(self._watchers):
            await emit(event)


async def run(
    units: Units, digest: str, recipe: Recipe, settings: BuildSettings, others: list[str], emit: Emit
) -> BuildFailed:
    """Run the unit that builds an image, or both; return the error to raise if its folder is still incomplete.

    The first unit builds from wheels and shares files with other images. If code of packages has to run, a second one
    builds isolated from them. Raises :class:`HostFailure` when a unit cannot be made.
    """
    closed = loopback_nameservers(nameservers())
    lines: deque[str] = deque(maxlen=_OUTPUT_LINES)

    async def heard(text: str) -> None:
        again = repeats(text, lines)
        lines.append(text)
        if not again:
            await emit(Progress(BUILD, text))

    async with lines_to(heard) as pipe:
        settings = dataclasses.replace(settings, addresses=closed, output_fd=pipe)
        end = await units.run_transient(unit_name(digest), build_unit(digest, recipe, settings, others))
        if end == UnitEnd("exit-code", EX_ISOLATED):
            await emit(Progress(STEP, "this build runs code of a package: continuing isolated from other images"))
            end = await units.run_transient(unit_name(digest), build_unit(digest, recipe, settings, isolated=True))
            if end.status:  # an isolated build cannot remove its own folder
                quiet = dataclasses.replace(settings, output_fd=None)
                await units.run_transient(unit_name(digest), remove_unit([digest], quiet))
    return build_failure(end.result, end.status, lines)
