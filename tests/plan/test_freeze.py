"""The step between running and stopped: when apps are frozen, thawed and stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flyted.contract.errors import InvalidInput
from flyted.contract.names import Replica, freezer_of, frozen_by
from flyted.contract.status import AppState
from flyted.plan.actions import EngineSleep, Freeze, Sleep, Thaw
from flyted.plan.facts import Facts
from flyted.plan.freeze import FreezeRules
from flyted.plan.idle import Clock
from flyted.plan.reconcile import Plan, reconcile
from flyted.plan.states import state_of
from flyted.plan.unit_index import UnitFact, UnitIndex
from tests.values import DOMAIN, app, facts, pair, quiet, spec

A1 = Replica("a", 1)
FREEZER = freezer_of(A1)
AUTO = FreezeRules("auto", 100.0)
NEVER = FreezeRules("never", 100.0)
ALWAYS = FreezeRules("always", 100.0)


def seen(rules: FreezeRules = AUTO, frozen: str = "", in_flight: int = 0, **changes: Any) -> Facts:
    """Facts about an app that runs, idle unless it has requests. ``frozen``: the state of the unit that freezes it."""
    units = pair(A1, "active")
    if frozen:
        units[FREEZER] = UnitFact(FREEZER, "loaded", frozen, "running")
    return facts(
        app("a", scaledown_after_s=10.0, **changes), units=units, freeze=rules,
        traffic={"a-r1-0": quiet(100, in_flight=in_flight)},
    )  # fmt: skip


def planned(found: Facts, since: float = 0.0, now: float = 1000.0) -> Plan:
    """The plan, where the app has been idle since that moment."""
    return reconcile(found, {"a-r1-0": Clock(since, since, seen=found.traffic["a-r1-0"])}, DOMAIN, now)


@pytest.mark.parametrize(
    ("rules", "changes", "action"),
    [
        (AUTO, {}, Freeze(A1, quiet(100))),
        (ALWAYS, {}, Freeze(A1, quiet(100))),
        (NEVER, {}, Sleep(A1, quiet(100))),
        (NEVER, {"idle": "freeze"}, Freeze(A1, quiet(100))),
        (AUTO, {"idle": "stop"}, Sleep(A1, quiet(100))),
        (ALWAYS, {"idle": "stop"}, Sleep(A1, quiet(100))),
        (ALWAYS, {"gpu_count": 1}, Sleep(A1, quiet(100))),
        (AUTO, {"idle": "freeze", "gpu_count": 1}, Sleep(A1, quiet(100))),
        (AUTO, {"engine_sleep": 1, "port": 8080, "command": ("vllm", "serve", "m")}, EngineSleep(A1)),
    ],
)
def test_what_becomes_of_an_idle_app(rules: FreezeRules, changes: dict[str, Any], action: object) -> None:
    """What the app says counts more than the machine's setting; memory of a GPU is never kept."""
    assert planned(seen(rules, **changes)).actions == (action,)


def test_an_app_that_may_not_rest_is_not_frozen() -> None:
    """A minimum of one replica is one that answers at once; and one with requests is busy."""
    assert planned(seen(min_replicas=1)).actions == ()
    assert planned(seen(in_flight=1)).actions == ()


def test_a_frozen_app_is_left_alone_until_it_is_to_be_stopped() -> None:
    """The plan is due then and no earlier."""
    frozen = planned(seen(frozen="active"), since=950.0)
    assert frozen.actions == ()
    assert frozen.next_pass_at == pytest.approx(1050.0, abs=0.1)
    assert planned(seen(frozen="active"), since=899.0).actions == (Sleep(A1, quiet(100)),)
    assert planned(seen(NEVER, frozen="active", idle="freeze"), since=899.0).actions == (Sleep(A1, quiet(100)),)


def test_one_that_stays_frozen_costs_no_timer() -> None:
    """With ``always``, and without a step of its own that says otherwise."""
    always = planned(seen(ALWAYS, frozen="active"))
    assert (always.actions, always.next_pass_at) == ((), None)
    assert planned(seen(ALWAYS, frozen="active", idle="freeze")).actions == (Sleep(A1, quiet(100)),)


@pytest.mark.parametrize(
    ("rules", "changes", "seconds"),
    [
        (AUTO, {}, 100.0),
        (ALWAYS, {}, 0.0),
        (ALWAYS, {"idle": "freeze"}, 100.0),
        (NEVER, {}, 0.0),
        (NEVER, {"idle": "freeze"}, 100.0),
        (AUTO, {"gpu_count": 1}, 0.0),
    ],
)
def test_what_is_shown_of_when_it_is_stopped(rules: FreezeRules, changes: dict[str, Any], seconds: float) -> None:
    """None for one that stays frozen, and for one that is never frozen."""
    assert rules.stop_after(spec(**changes)) == seconds


def test_one_that_is_frozen_with_requests_is_thawed() -> None:
    """flyted ended between the freeze and its look: nobody else would see them."""
    assert planned(seen(frozen="active", in_flight=1)).actions == (Thaw(A1),)


@pytest.mark.parametrize("changes", ["activating", "deactivating"])
def test_nothing_is_done_while_that_changes(changes: str) -> None:
    """Somebody may be stopping the app: first goes what keeps it frozen. The end of it asks for the next pass."""
    plan = planned(seen(frozen=changes), since=0.0)
    assert (plan.actions, plan.next_pass_at) == ((), None)
    assert plan.clocks["a-r1-0"].since == 0.0


@pytest.mark.parametrize(("frozen", "kept"), [("", True), ("active", False), ("activating", False)])
def test_the_ingress_keeps_no_connection_to_one_that_is_frozen(frozen: str, kept: bool) -> None:
    """A request over one would not be seen by what thaws it."""
    found = seen(frozen=frozen)
    ingress = reconcile(replace(found, keeping=frozenset({A1.service})), {}, DOMAIN, 1.0).ingress
    assert ingress.servers["a-r1-0"].kept is kept


def test_it_is_shown_as_frozen() -> None:
    """But not while it stops, or when the unit has ended; and its unit is among those of the app."""
    assert state_of(app("a"), seen(frozen="active")) == (AppState.FROZEN, "")
    assert state_of(app("a"), seen(frozen="inactive"))[0] is AppState.RUNNING
    stopping = facts(app("a"), units={**seen(frozen="active").units, **pair(A1, "deactivating")})
    assert state_of(app("a"), stopping)[0] is AppState.STOPPING
    assert [each.name for each in seen(frozen="active").units_of("a")][-1] == FREEZER


def test_units_are_told_apart() -> None:
    """The unit that freezes an app is none of the app's pair, whatever its name looks like."""
    assert frozen_by(FREEZER) == A1
    for other in ("flyted-freeze@.service", "flyted-freeze@x.service", A1.service, "flyted-net@a-r1-0.service"):
        assert frozen_by(other) is None
    index = UnitIndex(seen(frozen="active").units.values())
    assert index.of_app("a")[FREEZER].active == "active"
    assert FREEZER not in index.replaced([FREEZER], ())
    assert index.replaced([FREEZER], ()).by_app == UnitIndex(pair(A1, "active").values()).by_app


@pytest.mark.parametrize("changes", [{"idle": "ice"}, {"idle": "freeze", "engine_sleep": 1}, {"idle": "sleep"}])
def test_another_step_is_refused(changes: dict[str, Any]) -> None:
    """With the words that there are."""
    with pytest.raises(InvalidInput) as caught:
        spec(**changes)
    assert caught.value.hint == "give --idle freeze, stop, sleep or sleep:2"
