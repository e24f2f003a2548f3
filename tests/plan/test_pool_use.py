"""Which pools of the ingress are free for other apps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flyted.contract.names import Replica
from flyted.plan.facts import StoredApp
from flyted.plan.pool_use import unused
from flyted.plan.unit_index import UnitIndex
from tests.values import app, pair

NOW_ONE = app(serving=2, revisions=2)
HAD_MANY = app(serving=2, revisions=2, max_replicas=3)


def became_one(**changes: object) -> StoredApp:
    """An app that had several replicas, and whose serving revision has one."""
    revisions = (HAD_MANY.revisions[0], NOW_ONE.revisions[1])
    return replace(NOW_ONE, pool=7, revisions=revisions, **changes)  # type: ignore[arg-type]


def units(*replicas: Replica) -> UnitIndex:
    """The pairs of these."""
    return UnitIndex(fact for each in replicas for fact in pair(each).values())


def test_an_app_that_became_one_of_a_single_replica_needs_none() -> None:
    """Once its old replicas have drained."""
    serves, old = Replica("a", 2), Replica("a", 1, 1)
    assert unused([became_one()], units(serves)) == ("a",)
    assert unused([became_one()], units(serves, old)) == ()
    assert unused([app(), HAD_MANY], units()) == ()


@pytest.mark.parametrize("wanted", ["started", "stopped"])
def test_an_app_of_several_replicas_keeps_it(wanted: str) -> None:
    """While it is stopped too."""
    assert unused([app(max_replicas=2, wanted=wanted)], units()) == ()


def test_a_deploy_has_its_pool_before_it_serves() -> None:
    """One that failed needs none."""
    for status, found in (("pending", ()), ("failed", ("a",))):
        new = replace(HAD_MANY.revisions[0], number=3, status=status)
        given = became_one()
        assert unused([replace(given, revisions=(*given.revisions, new))], units()) == found


def test_an_app_without_a_pool_has_none_to_give() -> None:
    """Whatever it was."""
    assert unused([replace(became_one(), pool=None)], units()) == ()
