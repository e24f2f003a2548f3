"""Which images are deleted: those that no revision needs, some time after the last one did. Pure.

Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from flyted.plan.facts import StoredApp

KEPT_S = 7 * 86400.0
"""An app that was deleted may come back, and a change be taken back: its image is then there at once."""
KEPT_WHEN_CROWDED_S = 3600.0
CROWDED_SHARE = 0.05
CROWDED_BYTES = 2 << 30


@dataclass(frozen=True)
class Sweep:
    """What to delete, and since when the others are unused: to be known at the next look."""

    remove: tuple[str, ...]
    unused_since: dict[str, float]


def sweep(
    images: Mapping[str, bool], used: Collection[str], unused_since: Mapping[str, float], now: float, *, crowded: bool
) -> Sweep:
    """``images``: hash -> whether it is complete; nothing is being built, so one that is not never will be.

    ``used``: see :func:`in_use`. ``crowded``: the disk is, see :func:`is_crowded`; unused images then go earlier.
    An image counts as unused from the first look on that found it so.
    """
    kept = KEPT_WHEN_CROWDED_S if crowded else KEPT_S
    since = {each: min(unused_since.get(each, now), now) for each in sorted(images) if each not in used}
    remove = tuple(each for each, start in since.items() if now - start >= kept or not images[each])
    return Sweep(remove, {each: start for each, start in since.items() if each not in remove})


def in_use(apps: Iterable[StoredApp]) -> frozenset[str]:
    """The hashes of the images of all revisions that serve, will after a start, or are just coming up."""
    return frozenset(
        revision.image.hash
        for app in apps
        for revision in app.revisions
        if revision.image.hash and (revision.number == app.serving or revision.status == "pending")
    )


def is_crowded(free_bytes: int, total_bytes: int) -> bool:
    """Whether a disk is nearly full: less than a twentieth of it is free, and less than 2 GiB."""
    return free_bytes < min(CROWDED_BYTES, total_bytes * CROWDED_SHARE)
