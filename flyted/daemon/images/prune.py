"""Handles ``flytectl image prune``: lists and deletes the images that no app uses."""

from __future__ import annotations

from flyted.contract.answers.events import STEP, Progress
from flyted.contract.answers.images import Pruned
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.daemon.images.unused import UnusedImages


class PruneVerbs:
    """The handlers of the verbs about unused images."""

    def __init__(self, unused: UnusedImages) -> None:
        self._unused = unused

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        return {
            "image.unused": Verb(Right.READ, {}, self.unused),
            "image.prune": Verb(Right.OPERATE, {}, self.prune, until_gone=True, changes=True),
        }

    async def unused(self, call: Call) -> Pruned:
        """Return what ``image.prune`` would remove now. Raises :class:`HostFailure`."""
        await self._tell_of_builds(call)
        return self._unused.all_unused()

    async def prune(self, call: Call) -> Pruned:
        """Remove all images and layers that no app uses, and what was downloaded for them; return what was removed.

        A client that leaves while builds are waited for cancels it. Raises as :meth:`UnusedImages.all_removed`.
        """
        await self._tell_of_builds(call)
        removed = await self._unused.all_removed()
        call.about.tell(image=[each.hash for each in removed.images])
        return removed

    async def _tell_of_builds(self, call: Call) -> None:
        builds = self._unused.images.builds
        if builds.wanted:
            await call.emit(Progress(STEP, "images are being built; nothing is deleted before they are ready"))
        for unit in sorted(builds.earlier.running()):
            since = "was begun before flyted was restarted, and still runs"
            await call.emit(Progress(STEP, f"{unit} {since}; nothing is deleted before it ends"))
