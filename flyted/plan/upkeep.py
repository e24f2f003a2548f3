"""Decides the work that belongs to no single app: images, the ingress's tokens and certificates. Pure.

Times are seconds since 1970, of a clock that may be set. An action that is under way is not planned again: its
end asks for another plan.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from flyted.plan.actions import (
    ApplyCertificates,
    BuildAction,
    CheckTokens,
    OrderCertificate,
    RemoveImages,
    RenewCertificate,
    RevokeCertificate,
    UpkeepAction,
)
from flyted.plan.images.unused import any_removes, sweep
from flyted.plan.ingress.orders import plan_orders
from flyted.plan.ingress.revocations import plan_revocations
from flyted.plan.upkeep_facts import UpkeepFacts


@dataclass(frozen=True)
class UpkeepPlan:
    """What to begin now. ``due``: the next moment at which time alone changes that; ``None``: never."""

    actions: tuple[UpkeepAction, ...] = ()
    due: float | None = None


def plan_upkeep(facts: UpkeepFacts) -> UpkeepPlan:
    """Return the plan. The end of each action asks for the next one, as does whatever changes the facts."""
    parts = (_tokens(facts), _certificate(facts), _orders(facts), _revocations(facts))
    dues = [part.due for part in parts if part.due is not None]
    actions = (*_images(facts), *(action for part in parts for action in part.actions))
    return UpkeepPlan(actions, min(dues, default=None))


def _images(facts: UpkeepFacts) -> tuple[UpkeepAction, ...]:
    images, disk = facts.images, facts.images.disk
    if any(isinstance(action, RemoveImages) for action in facts.under_way) or any_removes(images.earlier):
        return ()
    if images.wanted:
        return tuple(each for each in sorted(images.wanted, key=repr) if each not in facts.under_way)
    if disk is None or not may_remove(images.wanted, facts.under_way, images.earlier):
        return ()
    found = sweep(
        disk.found, disk.used | images.held, disk.unused_since, facts.time, crowded=disk.crowded,
        all_unused=disk.all_unused,
    )  # fmt: skip
    if not disk.all_unused and not found.remove and found.unused_since == disk.unused_since:
        return ()
    return (RemoveImages(found.remove, tuple(found.unused_since.items())),)


def may_remove(wanted: Collection[BuildAction], under_way: Collection[UpkeepAction], earlier: Collection[str]) -> bool:
    """Report whether images may be removed now: not while one is wanted, or one is built or removed.

    A removal also empties parts of the cache that a build reads. ``earlier``: as in :class:`ImageFacts`.
    """
    return (
        not wanted and not earlier and not any(isinstance(action, (BuildAction, RemoveImages)) for action in under_way)
    )


def _tokens(facts: UpkeepFacts) -> UpkeepPlan:
    stale, due = facts.tokens.stale, facts.tokens.due
    if CheckTokens() in facts.under_way:
        return UpkeepPlan()
    if stale or (due is not None and facts.time >= due):
        return UpkeepPlan((CheckTokens(),))
    return UpkeepPlan(due=due)


def _certificate(facts: UpkeepFacts) -> UpkeepPlan:
    certificate = facts.certificate
    if certificate is None or RenewCertificate() in facts.under_way:
        return UpkeepPlan()
    right = certificate.begins <= facts.time < certificate.ends
    due = certificate.ends if right else certificate.again_at
    if right or (due is not None and facts.time < due):
        return UpkeepPlan(due=due)
    return UpkeepPlan((RenewCertificate(),))


def _orders(facts: UpkeepFacts) -> UpkeepPlan:
    under_way = [each.name for each in facts.under_way if isinstance(each, OrderCertificate)]
    names, due = plan_orders(facts.orders, under_way, facts.time)
    busy = any(isinstance(each, (RenewCertificate, ApplyCertificates)) for each in facts.under_way)
    at = None if busy else facts.apply_at
    apply = (ApplyCertificates(),) if at is not None and at <= facts.time else ()
    dues = [each for each in (due, None if apply else at) if each is not None]
    return UpkeepPlan((*apply, *(OrderCertificate(name) for name in names)), min(dues, default=None))


def _revocations(facts: UpkeepFacts) -> UpkeepPlan:
    under_way = [each.fingerprint for each in facts.under_way if isinstance(each, RevokeCertificate)]
    found, due = plan_revocations(facts.revocable, under_way, facts.time)
    return UpkeepPlan(tuple(map(RevokeCertificate, found)), due)
