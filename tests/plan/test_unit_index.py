"""The index of units: after any changes it is as if it had been made of the units as they are now."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.names import Replica
from flyted.plan.unit_index import AT_REST, UnitFact, UnitIndex

NAMES = [name for app in ("a", "b") for r in (Replica(app, 1), Replica(app, 2)) for name in (r.socket, r.service)]
NAMES += ["flyted-ingress.service", "flyted-ingress.socket", "run-flyted.mount"]
STATES = ("active", "activating", "deactivating", "inactive", "failed")
UNITS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(STATES)).map(
    lambda found: {name: UnitFact(name, "loaded", active, "") for name, active in found.items()}
)


def sleeping(units: Mapping[str, UnitFact]) -> set[str]:
    """The services of pairs that sleep, found one by one."""
    found = set()
    for name, unit in units.items():
        service = name.removesuffix(".socket") + ".service"
        if name.endswith(".socket") and unit.active == "active":
            found |= {service} if service not in units or units[service].active in AT_REST else set()
    return found


@given(UNITS, st.lists(st.tuples(UNITS, st.sets(st.sampled_from(NAMES)))))
def test_an_index_that_was_changed_is_like_one_made_anew(
    units: dict[str, UnitFact], changes: list[tuple[dict[str, UnitFact], set[str]]]
) -> None:
    """Whatever came, changed and went; and the index before stays as it was."""
    index = UnitIndex(units.values())
    for found, gone in changes:
        before, then = dict(index), index
        units = {name: unit for name, unit in units.items() if name not in gone} | found
        index = index.replaced(gone, found.values())
        assert dict(then) == before
    new = UnitIndex(units.values())
    assert (dict(index), index.others, index.by_app) == (units, new.others, new.by_app)
    assert index.sleeping == new.sleeping == sleeping(units)
    pairs = {f"{name.removesuffix('.service')}.{kind}" for name in index.sleeping for kind in ("socket", "service")}
    assert index.others.keys() == units.keys() - pairs


def test_the_units_of_one_app_are_found_by_its_id() -> None:
    """Those of another app whose id begins alike are not among them."""
    names = [Replica("a", 1).socket, Replica("a", 2).service, Replica("a-r1", 1).service]
    index = UnitIndex(UnitFact(name, "loaded", "active", "") for name in names)
    assert sorted(index.of_app("a")) == sorted(names[:2])
    assert dict(index.of_app("b")) == {}
