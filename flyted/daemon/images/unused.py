"""Looks for images and layers that nobody needs any more, and deletes them: at rare moments, never by the clock.

The moments are the daemon's start, deploys and deletions. What is deleted, and when, is decided in plan/upkeep.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyted.contract.errors import FlytedError
from flyted.daemon.effects import Units, Wanted
from flyted.daemon.images.images import Images
from flyted.daemon.images.roots import PULLED
from flyted.host import whole_file
from flyted.host.disk import disk_space
from flyted.plan.actions import RemoveImages
from flyted.plan.facts import StoredApp
from flyted.plan.images.build_unit import remove_unit
from flyted.plan.images.layer_unit import remove_layers_unit
from flyted.plan.images.pull_unit import forget_unit
from flyted.plan.images.unused import in_use, is_crowded
from flyted.plan.upkeep_facts import ImagesOnDisk

log = logging.getLogger(__name__)

UNIT = "flyted-build-removal.service"
LAYERS_UNIT = "flyted-layer-removal.service"
PULLS_UNIT = "flyted-pull-removal.service"


@dataclass
class UnusedImages:
    """The removal of unused images. ``notes``: a file that remembers since when images are unused.

    ``apps()``: all apps, as they are now.
    """

    units: Units
    images: Images
    apps: Callable[[], Iterable[StoredApp]]
    notes: Path
    poke: Callable[[], None]
    _asked: bool = field(default=False)

    def soon(self) -> None:
        """Have unused images looked for in the next pass that may remove some: after the builds that run now.

        Nobody waits for it, and failures are logged.
        """
        self._asked = True
        self.poke()

    def look(self) -> ImagesOnDisk | None:
        """Return what is on the disk, if somebody has asked for it since the last call."""
        if not self._asked:
            return None
        self._asked = False
        try:
            roots = self.images.roots
            found = {**self.images.found(), **roots.images(), **roots.layers(), **roots.pulled()}
            crowded = is_crowded(*disk_space(self.images.folder))
            return ImagesOnDisk(found, in_use(self.apps()), self._since(), crowded)
        except (FlytedError, OSError) as error:
            log.warning("cannot remove unused images yet: %s", error)
            return None

    def removal(self, action: RemoveImages) -> Coroutine[Any, Any, None]:
        """Return what deletes images, and writes down since when others are unused; failures are logged.

        From this call on they count as gone: who wants one has it built when the removal is over.
        """
        self.images.removing.update(action.images)
        return self._remove(action)

    async def _remove(self, action: RemoveImages) -> None:
        try:
            if action.images:
                log.info("removing images and layers that no app uses: %s", ", ".join(action.images))
                roots = self.images.roots
                venvs, layers = ([each for each in action.images if each in found] for found in self._found())
                roots.forget(action.images)  # first: a layer that is half removed is not whole
                await self._run(UNIT, remove_unit(venvs, prune=True))
                if layers:
                    await self._run(LAYERS_UNIT, remove_layers_unit(layers))
                if PULLED in action.images:
                    await self.units.run_transient(PULLS_UNIT, forget_unit(), clean=["state"])
            whole_file.write(self.notes, json.dumps(dict(action.unused_since)).encode(), 0o600)
        except (FlytedError, OSError) as error:
            log.warning("cannot remove unused images yet: %s", error)
        finally:
            self.images.removing.clear()

    def _found(self) -> tuple[Collection[str], Collection[str]]:
        return self.images.found(), self.images.roots.layers()

    async def _run(self, name: str, wanted: Wanted) -> None:
        end = await self.units.run_transient(name, wanted)
        if end.status:
            log.warning("%s could not remove all: %s, exit status %d", name, end.result, end.status)

    def _since(self) -> dict[str, float]:
        try:
            return {str(name): float(start) for name, start in json.loads(self.notes.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError):  # then all periods begin anew
            return {}
