"""Finds images and layers that nothing needs any more, and deletes them, at certain events and never by a timer.

The moments are the daemon's start, deploys and deletions, and ``flytectl image prune``.
What is deleted, and when, is decided in plan/upkeep.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flyted.contract.answers.images import ImageEntry, Pruned
from flyted.contract.errors import FlytedError, HostFailure
from flyted.contract.names import replica_of
from flyted.daemon.effects import Units, Wanted
from flyted.daemon.images.images import Images
from flyted.daemon.images.listing import entries
from flyted.daemon.images.roots import PULLED
from flyted.host import whole_file
from flyted.host.disk import disk_space
from flyted.host.mounts import mounts
from flyted.plan.actions import RemoveImages
from flyted.plan.facts import ImageFact, StoredApp
from flyted.plan.images.build_unit import remove_unit
from flyted.plan.images.layer_unit import remove_layers_unit
from flyted.plan.images.pull_unit import forget_unit
from flyted.plan.images.unused import (
    IMAGE_REMOVAL,
    LAYER_REMOVAL,
    PULL_REMOVAL,
    in_use,
    is_crowded,
    mounted,
    sweep,
)
from flyted.plan.upkeep_facts import ImagesOnDisk

log = logging.getLogger(__name__)


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
    _renewed: set[str] = field(default_factory=set)
    _waiting: list[asyncio.Future[Pruned]] = field(default_factory=list)

    def resume(self) -> None:
        """Find what an earlier flyted left running, and request a search for unused images after its end.

        Raises :class:`HostFailure` if systemd does not answer.
        """
        self.images.builds.earlier.find()
        self.soon()

    def soon(self) -> None:
        """Request a search for unused images in the next pass that may remove some: after the running builds.

        No caller waits for it; failures are logged.
        """
        self._asked = True
        self.poke()

    def used_now(self, image: ImageFact) -> None:
        """Keep an image, and its layers, from now on like one that an app has used until now."""
        self._renewed.update((image.hash, *(image.root.layers if image.root else ())))
        self.soon()

    async def all_removed(self) -> Pruned:
        """Remove all unused images, however long they have been unused, and return what was removed.

        That is after the running builds; a caller who leaves before it has begun cancels it. Raises
        :class:`HostFailure` if not all could be removed.
        """
        ended: asyncio.Future[Pruned] = asyncio.get_running_loop().create_future()
        self._waiting.append(ended)
        self.poke()
        try:
            return await ended
        finally:
            if ended in self._waiting:
                self._waiting.remove(ended)

    def all_unused(self) -> Pruned:
        """Return what :meth:`all_removed` would remove now. Raises :class:`HostFailure`."""
        try:
            disk = self._disk(all_unused=True)
        except OSError as error:
            raise _unseen(error) from error
        found = sweep(disk.found, disk.used | self.images.in_use(), {}, 0.0, all_unused=True)
        return self._told(found.remove)

    def look(self) -> ImagesOnDisk | None:
        """Return the images on the disk, if it was requested since the last call, or a caller waits for a removal."""
        if not self._asked and not self._waiting:
            return None
        self._asked = False
        try:
            return self._disk(all_unused=bool(self._waiting))
        except (FlytedError, OSError) as error:
            log.warning("cannot remove unused images yet: %s", error)
            self.refuse(error if isinstance(error, FlytedError) else _unseen(error))
            return None

    def refuse(self, error: FlytedError) -> None:
        """Raise an error in the callers that wait for a removal that has not begun."""
        _fail(self._taken(), error)

    def removal(self, action: RemoveImages) -> Coroutine[Any, Any, None]:
        """Return what deletes images and records since when others are unused; failures are logged.

        From this call on they count as deleted: an app that needs one gets it built after the removal.
        """
        self.images.removing.update(action.images)
        self._renewed.clear()
        return self._remove(action, self._taken())

    def _disk(self, *, all_unused: bool) -> ImagesOnDisk:
        found = self._on_disk()
        apps = list(self.apps())
        running = {replica for name in self.units.look() if (replica := replica_of(name)) is not None}
        known = {(app.key.id, each.number) for app in apps for each in app.revisions}
        # the revision of a replica that ends may be forgotten already, and with it which image that has
        forgotten = not known.issuperset((each.app_id, each.revision) for each in running)
        used = in_use(apps, running) | mounted(mounts()) | (frozenset(found) if forgotten else frozenset())
        crowded = is_crowded(*disk_space(self.images.folder))
        return ImagesOnDisk(found, used, self._since(), crowded, all_unused)

    def _on_disk(self) -> dict[str, bool]:
        roots = self.images.roots
        return {**self.images.found(), **roots.images(), **roots.layers(), **roots.pulled()}

    def _taken(self) -> list[asyncio.Future[Pruned]]:
        waiting, self._waiting = self._waiting, []
        return waiting

    async def _remove(self, action: RemoveImages, waiting: list[asyncio.Future[Pruned]]) -> None:
        try:
            told = self._told(action.images) if waiting else Pruned((), 0, 0, 0)
            before, (freed, whole) = _of_environments(told.images), await self._removed(action.images)
            whole_file.write(self.notes, json.dumps(dict(action.unused_since)).encode(), 0o600)
            self.images.renewals.forget(self._on_disk(), self.images.roots.keys())
            if not whole:
                raise HostFailure("not all unused images could be removed", hint="sudo journalctl -u flyted -n 20")
            for each in waiting:
                if not each.done():
                    each.set_result(replace(told, bytes=told.bytes - before + min(freed, before)))
        except (FlytedError, OSError) as error:
            log.warning("cannot remove unused images yet: %s", error)
            _fail(waiting, error if isinstance(error, FlytedError) else _unseen(error))
        finally:
            self.images.removing.clear()
            _fail(waiting, HostFailure("flyted ends"))

    async def _removed(self, names: Collection[str]) -> tuple[int, bool]:
        """Remove images and layers; return how many bytes those of Python environments were, and if all went well.

        They share files with each other and with the cache, so only the disk knows.
        """
        if not names:
            return 0, True
        log.info("removing images and layers that no app uses: %s", ", ".join(names))
        before, _size = disk_space(self.images.folder)
        venvs, layers = ([each for each in names if each in found] for found in self._found())
        self.images.roots.forget(names)  # first: a layer that is half removed is not complete
        whole = await self._run(IMAGE_REMOVAL, remove_unit(venvs, prune=True))
        freed = max(disk_space(self.images.folder)[0] - before, 0)
        if layers:
            whole &= await self._run(LAYER_REMOVAL, remove_layers_unit(layers))
        if PULLED in names:
            await self.units.run_transient(PULL_REMOVAL, forget_unit(), clean=["state"])
        return freed, whole

    def _told(self, names: Collection[str]) -> Pruned:
        """Return the records of images and layers that still exist."""
        images = [each for each in entries(self.images, self.apps()) if each.hash in names]
        roots = self.images.roots
        layers = roots.layers().keys() & set(names)
        downloads = roots.pulled_bytes() if PULLED in names else 0
        found = tuple(sorted(images, key=lambda each: -each.built_at))
        return Pruned(
            found, len(layers), downloads, downloads + roots.layers_on_disk.bytes_of(layers) + _of_environments(found)
        )

    def _found(self) -> tuple[Collection[str], Collection[str]]:
        return self.images.found(), self.images.roots.layers()

    async def _run(self, name: str, wanted: Wanted) -> bool:
        end = await self.units.run_transient(name, wanted)
        if end.status:
            log.warning("%s could not remove all: %s, exit status %d", name, end.result, end.status)
        return not end.status

    def _since(self) -> dict[str, float]:
        try:
            since = {str(name): float(start) for name, start in json.loads(self.notes.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError):  # then all periods begin again
            return {}
        return {name: start for name, start in since.items() if name not in self._renewed}


def _of_environments(images: Iterable[ImageEntry]) -> int:
    """Return the bytes of those images that are a Python environment."""
    return sum(each.bytes for each in images if each.packages)


def _fail(waiting: Iterable[asyncio.Future[Pruned]], error: FlytedError) -> None:
    for each in waiting:
        if not each.done():
            each.set_exception(error)
            each.exception()  # retrieved: there may be no caller


def _unseen(error: OSError) -> HostFailure:
    return HostFailure(f"unused images cannot be removed: {error}", hint="sudo journalctl -u flyted -n 20")
