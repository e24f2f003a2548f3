"""Decides which images are deleted: those that no revision has needed for some time. Pure.

Times are seconds since the epoch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from flyted.contract.names import Replica
from flyted.plan.facts import StoredApp

KEPT_S = 7 * 86400.0
"""Seconds that an unused image is kept: an app may be deployed again, or a change taken back, without a build."""
KEPT_WHEN_CROWDED_S = 3600.0
IMAGE_REMOVAL = "flyted-build-removal.service"
LAYER_REMOVAL = "flyted-layer-removal.service"
PULL_REMOVAL = "flyted-pull-removal.service"
REMOVALS = frozenset((IMAGE_REMOVAL, LAYER_REMOVAL, PULL_REMOVAL))
"""The units that delete images, layers, and what was downloaded for them."""
CROWDED_SHARE = 0.05
CROWDED_BYTES = 2 << 30
_LAYER = re.compile(r"/layers/([0-9a-f]{32})/diff\b")


@dataclass(frozen=True)
class Sweep:
    """The images to delete, and since when the others have been unused, for the next call."""

    remove: tuple[str, ...]
    unused_since: dict[str, float]


def sweep(
    images: Mapping[str, bool],
    used: Collection[str],
    unused_since: Mapping[str, float],
    now: float,
    *,
    crowded: bool = False,
    all_unused: bool = False,
) -> Sweep:
    """Return which images to delete now. Call it only while no image is being built.

    ``images``: hash → whether it is complete; since nothing is being built, an incomplete one never will be, so it is
    deleted now if unused. ``used``: see :func:`in_use`. ``unused_since``: that of the previous :class:`Sweep`; an
    image counts as unused from the first call that found it so. ``crowded``: whether the disk is nearly full (see
    :func:`is_crowded`); unused images are then deleted earlier. ``all_unused``: all of them were requested to
    be deleted, however long they have been unused.
    """
    kept = 0.0 if all_unused else KEPT_WHEN_CROWDED_S if crowded else KEPT_S
    since = {each: min(unused_since.get(each, now), now) for each in sorted(images) if each not in used}
    remove = tuple(each for each, start in since.items() if now - start >= kept or not images[each])
    return Sweep(remove, {each: start for each, start in since.items() if each not in remove})


def any_removes(units: Collection[str]) -> bool:
    """Report whether one of these units deletes images."""
    return not REMOVALS.isdisjoint(units)


def in_use(apps: Iterable[StoredApp], running: Collection[Replica] = ()) -> frozenset[str]:
    """Return the images of all revisions that serve, will after a start, or are being deployed, and their layers.

    ``running``: the replicas that have units; one of an earlier revision finishes its last requests.
    """
    kept = {(replica.app_id, replica.revision) for replica in running}
    images = [
        revision.image
        for app in apps
        for revision in app.revisions
        if revision.number == app.serving or revision.status == "pending" or (app.key.id, revision.number) in kept
    ]
    layers = [layer for image in images if image.root for layer in image.root.layers]
    return frozenset((*layers, *(image.hash for image in images if image.hash)))


def mounted(mounts: str) -> frozenset[str]:
    """Return the layers that are mounted. ``mounts``: the text of /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    return frozenset(_LAYER.findall(mounts))


def is_crowded(free_bytes: int, total_bytes: int) -> bool:
    """Report whether a disk is nearly full: less than a twentieth of it is free, and less than 2 GiB."""
    return free_bytes < min(CROWDED_BYTES, total_bytes * CROWDED_SHARE)
