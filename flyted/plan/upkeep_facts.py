"""Defines the facts about work that belongs to no single app (plan/upkeep.py). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flyted.plan.actions import BuildAction, UpkeepAction
from flyted.plan.ingress.orders import Order
from flyted.plan.ingress.revocations import Issued


@dataclass(frozen=True)
class ImagesOnDisk:
    """The images and layers that were found: hash or id → whether complete.

    ``unused_since``: as known of the look before this one. ``used``: those that revisions need, at the moment at which
    the others were found. ``all_unused``: a caller waits for the removal of all that are unused.
    """

    found: Mapping[str, bool]
    used: frozenset[str]
    unused_since: Mapping[str, float]
    crowded: bool
    all_unused: bool = False


@dataclass(frozen=True)
class ImageFacts:
    """The requests for images.

    ``wanted``: somebody waits for its result. ``held``: hashes of images that are about to be used. ``disk``: read
    only when unused images are asked for, and may be removed (:func:`upkeep.may_remove`). ``earlier``: the units of
    builds and removals that an earlier flyted began and that still run.
    """

    wanted: frozenset[BuildAction] = frozenset()
    held: frozenset[str] = frozenset()
    disk: ImagesOnDisk | None = None
    earlier: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TokenFacts:
    """When tokens are to be checked: ``due``, or now if they are ``stale``.

    They are stale after a change of a token, of users and groups, or of the clock.
    """

    stale: bool = False
    due: float | None = None


@dataclass(frozen=True)
class CertificateFact:
    """The certificate that the ingress was given is right from ``begins`` to ``ends``; the defaults: it has none.

    ``again_at``: when to try again after a failure; ``None`` if there was none, or the clock was set since.
    """

    begins: float = 0.0
    ends: float = 0.0
    again_at: float | None = None


@dataclass(frozen=True)
class UpkeepFacts:
    """The facts for :func:`plan_upkeep`, besides the apps. By default there is nothing to do."""

    time: float = 0.0
    under_way: frozenset[UpkeepAction] = frozenset()
    images: ImageFacts = field(default_factory=ImageFacts)
    tokens: TokenFacts = field(default_factory=TokenFacts)
    certificate: CertificateFact | None = None
    orders: tuple[Order, ...] = ()
    revocable: tuple[Issued, ...] = ()  # certificates to revoke that the ingress does not have any more
    apply_at: float | None = None  # when to give the ingress the ordered certificates; None: it has them
