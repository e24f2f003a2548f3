"""The work that belongs to no single app: what the plan has to know of it, and what of it is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from flyted.base import tasks
from flyted.contract.errors import FlytedError
from flyted.daemon.execute import Execute
from flyted.daemon.images.images import Images
from flyted.daemon.images.unused import UnusedImages
from flyted.plan.actions import BuildImage, UpkeepAction
from flyted.plan.upkeep import may_remove
from flyted.plan.upkeep_facts import ImageFacts, UpkeepFacts


class Upkeep:
    """Each action is carried out beside the passes, once at a time; its end asks for another pass.

    ``time()`` returns the seconds since 1970. ``poke``: asks for a pass.
    """

    def __init__(
        self,
        images: Images,
        unused: UnusedImages,
        time: Callable[[], float],
        execute: Execute,
        poke: Callable[[], None],
    ) -> None:
        self._images = images
        self._unused = unused
        self._time = time
        self._execute = execute
        self._poke = poke
        self._under_way: dict[UpkeepAction, asyncio.Task[Any]] = {}

    def facts(self) -> UpkeepFacts:
        """Return what there is to know right now; the folder of images is read only where it is asked for."""
        wanted = frozenset(self._images.builds)
        disk = self._unused.look() if may_remove(wanted, self._under_way) else None
        return UpkeepFacts(
            time=self._time(),
            under_way=frozenset(self._under_way),
            images=ImageFacts(wanted, frozenset(self._images.held), disk),
        )

    def begin(self, action: UpkeepAction) -> None:
        """Begin an action of the plan that was made of :meth:`facts`, with nothing awaited in between."""
        self._under_way[action] = task = tasks.begin(self._execute.upkeep(action), known=(FlytedError,))
        task.add_done_callback(lambda _task: self._ended(action))

    def _ended(self, action: UpkeepAction) -> None:
        del self._under_way[action]
        self._poke()

    def refuse(self, error: FlytedError) -> None:
        """Tell those who wait for a build that has not begun that it cannot: the machine cannot be looked at."""
        begun = {action.digest for action in self._under_way if isinstance(action, BuildImage)}
        self._images.refuse(error, begun)
