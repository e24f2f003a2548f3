"""When images are built and removed."""

from __future__ import annotations

import pytest

from flyted.plan.actions import BuildImage, CheckTokens, RemoveImages, RenewCertificate
from flyted.plan.images.unused import KEPT_S, REMOVALS
from flyted.plan.upkeep import UpkeepPlan, may_remove, plan_upkeep
from flyted.plan.upkeep_facts import CertificateFact, ImageFacts, ImagesOnDisk, TokenFacts, UpkeepFacts

NOW = 1e9
A, B, C = "a" * 32, "b" * 32, "c" * 32
OLD = ImagesOnDisk({A: True, B: False}, frozenset(), {A: NOW - KEPT_S}, crowded=False)
REMOVAL = RemoveImages((A, B), ())
FOR_A = BuildImage(A)


def plan(images: ImageFacts, *under_way: BuildImage | RemoveImages) -> tuple[object, ...]:
    """What is begun, on a machine without apps."""
    return plan_upkeep(UpkeepFacts(NOW, frozenset(under_way), images)).actions


def test_each_image_that_is_wanted_is_built_once_at_a_time() -> None:
    """Several beside each other."""
    wanted = ImageFacts(frozenset({FOR_A, BuildImage(B)}))
    assert plan(wanted) == (FOR_A, BuildImage(B))
    assert plan(wanted, FOR_A) == (BuildImage(B),)
    assert plan(wanted, FOR_A, BuildImage(B)) == ()


def test_nothing_is_built_during_a_removal_nor_removed_during_a_build() -> None:
    """Whatever was asked for first; who builds goes before who cleans up."""
    assert plan(ImageFacts(frozenset({BuildImage(C)})), REMOVAL) == ()
    assert plan(ImageFacts(frozenset({BuildImage(C)}), disk=OLD)) == (BuildImage(C),)
    assert plan(ImageFacts(disk=OLD), FOR_A) == ()
    assert plan(ImageFacts(disk=OLD), REMOVAL) == ()
    assert not may_remove((), (FOR_A,), ())
    assert not may_remove((), (REMOVAL,), ())
    assert not may_remove({FOR_A}, (), ())
    assert not may_remove((), (), {"flyted-pull-x.service"})
    assert may_remove((), (), ())


@pytest.mark.parametrize("removal", sorted(REMOVALS))
def test_what_an_earlier_flyted_left_running_counts_too(removal: str) -> None:
    """Builds go on beside a build; nothing is built beside a removal."""
    wanted, build = frozenset({FOR_A}), frozenset({f"flyted-build-{B}.service"})
    assert plan(ImageFacts(wanted, earlier=build)) == (FOR_A,)
    assert plan(ImageFacts(disk=OLD, earlier=build)) == ()
    assert plan(ImageFacts(wanted, earlier=frozenset({removal}))) == ()
    assert plan(ImageFacts(disk=OLD, earlier=frozenset({removal}))) == ()


def test_unused_images_are_removed_when_somebody_has_asked() -> None:
    """Not one that somebody is about to use; the next look is told since when others are unused."""
    assert plan(ImageFacts()) == ()
    assert plan(ImageFacts(disk=OLD)) == (REMOVAL,)
    assert plan(ImageFacts(held=frozenset({A}), disk=OLD)) == (RemoveImages((B,), ()),)
    new = ImagesOnDisk({C: True}, frozenset(), {}, crowded=False)
    assert plan(ImageFacts(disk=new)) == (RemoveImages((), ((C, NOW),)),)
    assert plan(ImageFacts(disk=ImagesOnDisk({C: True}, frozenset(), {C: NOW}, crowded=False))) == ()


def test_somebody_who_waits_for_a_removal_hears_of_its_end_also_if_it_removes_nothing() -> None:
    """All that is unused goes at once, but nothing during a build."""
    new = ImagesOnDisk({A: True, C: True}, frozenset({A}), {}, crowded=False, all_unused=True)
    assert plan(ImageFacts(disk=new)) == (RemoveImages((C,), ()),)
    assert plan(ImageFacts(held=frozenset({C}), disk=new)) == (RemoveImages((), ()),)
    assert plan(ImageFacts(disk=new), FOR_A) == ()


def test_an_image_in_use_is_not_removed() -> None:
    """And counts as unused from a later look on."""
    for used, removal in ((frozenset[str](), RemoveImages((A,), ())), (frozenset({A}), RemoveImages((), ()))):
        assert plan(ImageFacts(disk=ImagesOnDisk({A: True}, used, {A: 1.0}, crowded=True))) == (removal,)


def test_nothing_is_due_where_nothing_is() -> None:
    """The defaults."""
    assert plan_upkeep(UpkeepFacts()) == UpkeepPlan()


def test_tokens_are_looked_at_when_they_are_due_or_have_changed() -> None:
    """Once at a time: the end of a look asks for the next plan."""
    for tokens, actions, due in (
        (TokenFacts(), (), None),
        (TokenFacts(due=NOW + 1), (), NOW + 1),
        (TokenFacts(due=NOW), (CheckTokens(),), None),
        (TokenFacts(stale=True, due=NOW + 1), (CheckTokens(),), None),
    ):
        assert plan_upkeep(UpkeepFacts(NOW, tokens=tokens)) == UpkeepPlan(actions, due)
        under_way = frozenset({CheckTokens()})
        assert plan_upkeep(UpkeepFacts(NOW, under_way, tokens=tokens)) == UpkeepPlan()


def test_a_certificate_is_renewed_when_the_clock_is_outside_of_its_time() -> None:
    """After a failure later."""
    for certificate, actions, due in (
        (CertificateFact(), (RenewCertificate(),), None),
        (CertificateFact(NOW, NOW + 1), (), NOW + 1),
        (CertificateFact(NOW - 1, NOW), (RenewCertificate(),), None),
        (CertificateFact(NOW + 1, NOW + 2), (RenewCertificate(),), None),
        (CertificateFact(NOW - 1, NOW, again_at=NOW + 5), (), NOW + 5),
        (CertificateFact(NOW - 1, NOW, again_at=NOW), (RenewCertificate(),), None),
        (CertificateFact(NOW - 1, NOW + 1, again_at=NOW), (), NOW + 1),
    ):
        assert plan_upkeep(UpkeepFacts(NOW, certificate=certificate)) == UpkeepPlan(actions, due)
        under_way = frozenset({RenewCertificate()})
        assert plan_upkeep(UpkeepFacts(NOW, under_way, certificate=certificate)) == UpkeepPlan()


def test_the_next_thing_that_is_due_counts() -> None:
    """Of both."""
    facts = UpkeepFacts(NOW, tokens=TokenFacts(due=NOW + 2), certificate=CertificateFact(NOW, NOW + 1))
    assert plan_upkeep(facts).due == NOW + 1
