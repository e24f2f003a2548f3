"""When the plan has HAProxy restarted, or PID 1 listen for it."""

from __future__ import annotations

import pytest

from flyted.plan.actions import ListenIngress, RestartIngress
from flyted.plan.ingress.config import structure
from flyted.plan.ingress.ports import listeners
from flyted.plan.ingress.state import Listen
from flyted.plan.reconcile import reconcile
from tests.values import DOMAIN, facts

OTHER = Listen(8443, 8080)


def actions(**seen: object) -> tuple[object, ...]:
    """What is planned for a machine without apps."""
    return reconcile(facts(**seen), {}, DOMAIN, 1.0).actions


@pytest.mark.parametrize("unit", ["", "inactive", "failed", "activating", "deactivating", "active"])
def test_only_a_haproxy_that_runs_with_other_rules_is_restarted(unit: str) -> None:
    """Other ports are other rules; one whose rules are not known is left alone."""
    due = (RestartIngress(),) if unit == "active" else ()
    assert actions(ingress=unit, rules=structure(OTHER)) == due
    assert actions(ingress=unit, rules=structure(OTHER), listen=OTHER) == ()
    assert actions(ingress=unit, rules=None) == ()
    assert actions(ingress=unit, rules="") == due


def test_pid_1_listens_for_an_ingress_that_waits_for_its_socket() -> None:
    """Unless it does so, at the wanted places."""
    assert actions(ingress="activating", listening=()) == (ListenIngress(),)
    assert actions(ingress="activating", listening=listeners(OTHER)) == (ListenIngress(),)
    assert actions(ingress="activating", listening=listeners(Listen())) == ()
    assert actions(ingress="inactive", listening=None) == ()
