"""Decides the work that belongs to no single app: builds and removals of images. Pure.

Times are seconds since 1970. An action that is under way is not planned again: its end asks for another plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from flyted.plan.actions import BuildImage, RemoveImages, UpkeepAction
from flyted.plan.facts import StoredApp
from flyted.plan.images.unused import in_use, sweep
from flyted.plan.upkeep_facts import UpkeepFacts


def plan_upkeep(facts: UpkeepFacts, apps: Iterable[StoredApp]) -> tuple[UpkeepAction, ...]:
    """Return what to begin now. The end of each action asks for the next plan, as does whatever changes the facts."""
    images, disk = facts.images, facts.images.disk
    if any(isinstance(action, RemoveImages) for action in facts.under_way):
        return ()
    if images.wanted:
        return tuple(each for each in map(BuildImage, sorted(images.wanted)) if each not in facts.under_way)
    if disk is None or not may_remove(images.wanted, facts.under_way):
        return ()
    found = sweep(disk.found, in_use(apps) | images.held, disk.unused_since, facts.time, crowded=disk.crowded)
    if not found.remove and found.unused_since == disk.unused_since:
        return ()
    return (RemoveImages(found.remove, tuple(found.unused_since.items())),)


def may_remove(wanted: Collection[str], under_way: Collection[UpkeepAction]) -> bool:
    """Report whether images may be removed now: not while one is wanted, or one is built or removed.

    A removal also empties parts of the cache that a build reads.
    """
    return not wanted and not any(isinstance(action, (BuildImage, RemoveImages)) for action in under_way)
