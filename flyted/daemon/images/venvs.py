"""Builds an image that is a Python environment: one unit for wheels, and another where code of packages has to run."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from flyted.base import tasks
from flyted.build.words import EX_ISOLATED
from flyted.contract.answers.events import BUILD, STEP, Progress
from flyted.contract.errors import BuildFailed
from flyted.daemon.api.verbs import Emit
from flyted.daemon.effects import Units
from flyted.daemon.images.builds import OUTPUT_LINES
from flyted.host.disk import disk_space
from flyted.host.network import nameservers
from flyted.host.output import lines_to
from flyted.plan.facts import UnitEnd
from flyted.plan.images.build_unit import (
    IMAGES,
    KEEP_FREE,
    BuildSettings,
    build_failure,
    build_unit,
    killed_for_room,
    loopback_nameservers,
    remove_unit,
    repeats,
    unit_name,
)
from flyted.plan.images.recipe import Recipe

LOOK_S = 0.25
"""Seconds between two looks at the disk, while code of packages runs."""


async def run(
    units: Units, digest: str, recipe: Recipe, settings: BuildSettings, others: list[str], emit: Emit
) -> BuildFailed:
    """Run the unit that builds an image, or both; return the error to raise if its folder is still incomplete.

    The first unit builds from wheels and shares files with other images. If code of packages has to run, a second one
    builds isolated from them. Raises :class:`HostFailure` when a unit cannot be made.
    """
    closed = loopback_nameservers(nameservers())
    lines: deque[str] = deque(maxlen=OUTPUT_LINES)

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
            isolated = build_unit(digest, recipe, settings, isolated=True)
            async with _watched(units, unit_name(digest)) as killed:
                end = await units.run_transient(unit_name(digest), isolated)
            if end.status:  # an isolated build cannot remove its own folder
                quiet = dataclasses.replace(settings, output_fd=None)
                await units.run_transient(unit_name(digest), remove_unit([digest], quiet))
            if killed.is_set():
                return killed_for_room()
    return build_failure(end.result, end.status, lines)


@contextlib.asynccontextmanager
async def _watched(units: Units, name: str) -> AsyncIterator[asyncio.Event]:
    """Kill a unit during the block whenever too little of the disk is free; the event is then set.

    The unit does not look at the disk itself: the code of a package, which it runs, could stop it.
    """
    killed = asyncio.Event()

    async def watch() -> None:
        while True:
            if disk_space(Path(IMAGES))[0] < KEEP_FREE:
                killed.set()
                units.kill(name)
            await asyncio.sleep(LOOK_S)

    watching = tasks.begin(watch(), known=(OSError,))
    try:
        yield killed
    finally:
        watching.cancel()


def python_of(image: str) -> list[str]:
    """Return the folder of the image's Python, if uv fetched it, as a list of paths to be made readable.

    It is among the images, of which an app sees only its own.
    """
    python = Path(image, "bin/python").resolve()
    return [str(python.parent.parent)] if python.is_relative_to(IMAGES) else []
