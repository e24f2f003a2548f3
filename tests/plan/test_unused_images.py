"""Which images go, and when."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from flyted.contract.names import AppKey, Replica
from flyted.plan.facts import ImageFact, Revision, RootFact, StoredApp
from flyted.plan.images.layer_unit import LAYERS
from flyted.plan.images.unused import KEPT_S, KEPT_WHEN_CROWDED_S, Sweep, in_use, is_crowded, mounted, sweep
from tests.values import spec

A, B, C = "a" * 32, "b" * 32, "c" * 32
NOW = 1_800_000_000.0


def swept(since: dict[str, float], *, crowded: bool = False, whole: bool = True) -> Sweep:
    return sweep({A: True, B: whole}, {A}, since, NOW, crowded=crowded)


def test_an_image_in_use_stays_whatever_its_age() -> None:
    """Also on a full disk, also if it was unused for years before; and what it was is forgotten."""
    assert sweep({A: True}, {A}, {A: 0.0}, NOW, crowded=True) == Sweep((), {})


def test_the_clock_of_an_unused_image_starts_at_the_first_look() -> None:
    """However old it is: it may have been in use until a moment ago."""
    assert swept({}) == Sweep((), {B: NOW})
    assert swept({B: NOW - 5}) == Sweep((), {B: NOW - 5})


def test_it_goes_after_a_week_and_after_an_hour_on_a_full_disk() -> None:
    """Not a second earlier; never at once: a deploy that found it may be about to use it."""
    assert swept({B: NOW - KEPT_S + 1}).remove == ()
    assert swept({B: NOW - KEPT_S}) == Sweep((B,), {})
    assert swept({B: NOW - KEPT_WHEN_CROWDED_S + 1}, crowded=True).remove == ()
    assert swept({B: NOW - KEPT_WHEN_CROWDED_S}, crowded=True) == Sweep((B,), {})


def test_all_that_is_unused_goes_when_somebody_asks() -> None:
    """Also what was in use until a moment ago; never what is in use."""
    assert sweep({A: True, B: True, C: True}, {A}, {C: NOW - 5}, NOW, all_unused=True) == Sweep((B, C), {})


def test_half_an_image_goes_at_once() -> None:
    """Nothing builds while this is decided, so nobody will finish it; one that a revision names may be repaired."""
    assert swept({}, whole=False) == Sweep((B,), {})
    assert sweep({A: False}, {A}, {}, NOW, crowded=True) == Sweep((), {})


def test_a_clock_that_was_set_back_deletes_nothing_early() -> None:
    """A time of the future counts as now; images that are gone are forgotten."""
    assert swept({B: NOW + 9 * KEPT_S, C: 0.0}) == Sweep((), {B: NOW})


@pytest.mark.parametrize(
    ("status", "number", "used"), [("ready", 2, True), ("pending", 3, True), ("ready", 1, False), ("failed", 3, False)]
)
def test_images_of_revisions_that_may_serve_are_in_use(status: str, number: int, used: bool) -> None:
    """The one that serves, of a stopped app too, and one that comes up; not older ones nor one that failed."""
    key = AppKey("default", "development", "web")
    blank: dict[str, Any] = {"fingerprint": "", "reason": "", "created_at": 0.0}
    revision = Revision(number, spec("web"), ImageFact("/i", hash=A), status=status, **blank)
    app = StoredApp(key, "stopped", 2, (revision,), 0.0, 0.0)
    assert in_use([app]) == (frozenset({A}) if used else frozenset())
    given = dataclasses.replace(revision, image=ImageFact("/opt/env"))
    assert in_use([dataclasses.replace(app, revisions=(given,))]) == frozenset()


def test_an_image_is_in_use_while_a_replica_of_its_revision_has_units() -> None:
    """An earlier one that finishes its last requests; that of another app does not count."""
    blank: dict[str, Any] = {"fingerprint": "", "reason": "", "created_at": 0.0}
    old = Revision(1, spec("web"), ImageFact("/i", hash=A, root=RootFact((C,))), status="ready", **blank)
    new = dataclasses.replace(old, number=2, image=ImageFact("/i", hash=B))
    app = StoredApp(AppKey("default", "development", "web"), "started", 2, (old, new), 0.0, 0.0)
    assert in_use([app], {Replica("web", 2), Replica("other", 1)}) == {B}
    assert in_use([app], {Replica("web", 1)}) == {A, B, C}


def test_layers_are_found_in_what_is_mounted() -> None:
    """One by one, as newer kernels have them, or in one text."""
    one, two = f"{LAYERS}/{A}/diff", f"{LAYERS}/{B}/diff"
    newer = f"36 35 98:0 / /run/x/root rw,nosuid - overlay overlay rw,lowerdir+={one},lowerdir+={two},upperdir=/u\n"
    older = f"36 35 98:0 / /run/x/root rw,nosuid - overlay overlay rw,lowerdir={one}:{two},upperdir=/u\n"
    assert mounted(newer) == mounted(older) == {A, B}
    assert mounted(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 1 8:1 /{C} /{C} rw - ext4 /dev/sda1 rw\n") == frozenset()


def test_a_disk_is_crowded_by_share_and_by_size() -> None:
    """A twentieth of a small disk, 2 GiB of a large one."""
    gib = 1 << 30
    assert is_crowded(gib - 1, 20 * gib)
    assert not is_crowded(gib, 20 * gib)
    assert is_crowded(2 * gib - 1, 1000 * gib)
    assert not is_crowded(2 * gib, 1000 * gib)
