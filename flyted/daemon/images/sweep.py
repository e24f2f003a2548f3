"""Deletes images that nobody needs any more: at rare moments (start, deploy, delete), never by the clock."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flyted.base import tasks
from flyted.contract.errors import FlytedError
from flyted.daemon.images.images import Images
from flyted.host import whole_file
from flyted.host.disk import room
from flyted.plan.facts import StoredApp
from flyted.plan.images.build_unit import remove_unit
from flyted.plan.images.unused import in_use, is_crowded, sweep

if TYPE_CHECKING:
    from flyted.host.units import Units

log = logging.getLogger(__name__)

UNIT = "flyted-build-removal.service"


@dataclass
class ImageSweep:
    """The removal of unused images. ``notes``: a file that remembers since when images are unused."""

    units: Units
    images: Images
    apps: Callable[[], Iterable[StoredApp]]
    notes: Path
    _task: asyncio.Task[None] | None = field(default=None)

    def soon(self) -> None:
        """Look for unused images beside whatever else goes on, after the builds that run now.

        Nobody waits for it, and failures are logged.
        """
        if self._task is None or self._task.done():
            self._task = tasks.begin(self._look())

    async def _look(self) -> None:
        try:
            while not await self._swept():
                for build in list(self.images.building.values()):
                    await build.over()
        except (FlytedError, OSError) as error:
            log.warning("cannot remove unused images yet: %s", error)

    async def _swept(self) -> bool:
        """Delete unused images and return ``True``; return ``False`` while one is being built."""
        async with self.images.sweeping:
            if self.images.building:
                return False
            await self._sweep()
            return True

    async def _sweep(self) -> None:
        crowded = is_crowded(*room(self.images.folder))
        before = self._since()
        found = sweep(self.images.found(), in_use(self.apps()), before, time.time(), crowded=crowded)
        if found.remove:
            log.info("removing images that no app uses: %s", ", ".join(found.remove))
            end = await self.units.run_transient(UNIT, remove_unit(found.remove, prune=True))
            if end.status:
                log.warning("images could not be removed: %s, exit status %d", end.result, end.status)
        if found.unused_since != before:
            whole_file.write(self.notes, json.dumps(found.unused_since).encode(), 0o600)

    def _since(self) -> dict[str, float]:
        try:
            return {str(name): float(start) for name, start in json.loads(self.notes.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError):  # then all periods begin anew
            return {}
