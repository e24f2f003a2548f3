"""What the daemon says about apps: linear in their number, and computed once where it follows from the spec."""

from __future__ import annotations

from collections.abc import Iterator, ValuesView

import pytest

from flyted.contract.app import AppSpec
from flyted.contract.names import Replica
from flyted.daemon.apps.status import app_status
from flyted.plan import facts as facts_module
from flyted.plan.engines.shape import Shape, open_paths, shape_of
from flyted.plan.reconcile import reconcile
from flyted.plan.unit_index import UnitFact
from tests.values import DOMAIN, app, facts, pair


class Walked(dict[str, UnitFact]):
    """Units that count how often all of them are gone through."""

    walks = 0

    def values(self) -> ValuesView[UnitFact]:  # type: ignore[override]
        """All of them."""
        self.walks += 1
        return super().values()

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        self.walks += 1
        return super().__iter__()


def test_the_units_are_gone_through_once_for_all_apps() -> None:
    """What is said of 50 apps, the stopped ones too, takes one walk over the units, not one or two for each."""
    apps = [app(f"a{n}", wanted="stopped" if n % 2 else "started") for n in range(50)]
    units = Walked({name: unit for each in apps for name, unit in pair(Replica(each.key.id, 1)).items()})
    seen = facts(*apps, units=units)
    said = [app_status(each, seen, DOMAIN, 443) for each in apps]
    assert units.walks == 1
    own = [sorted(pair(Replica(each.key.id, 1))) for each in apps]
    assert [[unit.name for unit in each.units] for each in said] == own
    assert {each.state for each in said} == {"stopping", "sleeping"}


def test_an_app_whose_name_begins_like_another_ones_has_its_own_units() -> None:
    """The units of "a" and "a-r2" sort among each other."""
    one, other = app("a"), app("a-r2")
    seen = facts(one, other, units={**pair(Replica("a", 1)), **pair(Replica("a-r2", 1))})
    assert [unit.name for unit in seen.units_of("a")] == ["flyted-app-a-r1-0.service", "flyted-app-a-r1-0.socket"]
    assert seen.units_of("none") == ()


def test_what_follows_from_a_spec_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many passes and answers there are: the command is not parsed again."""
    parsed: list[AppSpec] = []

    def paths(spec: AppSpec) -> tuple[str, ...] | None:
        parsed.append(spec)
        return open_paths(spec)

    def shape(spec: AppSpec) -> Shape | None:
        parsed.append(spec)
        return shape_of(spec)

    monkeypatch.setattr(facts_module, "open_paths", paths)
    monkeypatch.setattr(facts_module, "shape_of", shape)
    one = app("a", command=("vllm", "serve", "m", "--api-key", "k"), port=8080)
    for _ in range(3):
        seen = facts(one, units=pair(Replica("a", 1)))
        reconcile(seen, {}, DOMAIN, 1.0)
        app_status(one, seen, DOMAIN, 443)
        assert one.current is not None
        assert one.current.shape is not None
    assert len(parsed) == 2
