"""The ingress's own units, on the machine of ``life.py``: when the plan has HAProxy restarted, or PID 1 listen."""

from __future__ import annotations

import pytest

from flyted.plan.ingress.ports import INGRESS_SOCKET, INGRESS_UNIT, listeners
from flyted.plan.ingress.state import Listen
from tests.daemon.life import Life
from tests.daemon.rest import rest


@pytest.fixture(autouse=True)
def _runs(life: Life) -> None:
    """There is one app, which runs."""
    life.serve("a", scaledown_after_s=100.0)
    life.run(1)


def restarted(life: Life) -> None:
    """Another version of flyted, which would write other rules than HAProxy has."""
    life.haproxy.rules = "flyted-older"
    life.end(killed=False)
    life.start()


def test_a_haproxy_with_other_rules_is_restarted_once_while_apps_run(life: Life) -> None:
    """The request in flight is answered first, the one that comes meanwhile afterwards; no app is touched."""
    (pair,) = life.world.pairs.values()
    run = pair.run
    running = life.request("a", 5.0)
    restarted(life)
    life.run(1)
    assert (life.haproxy.restarts, life.haproxy.up) == (1, False)
    waiting = life.request("a")
    life.run(10)
    assert (running.end, waiting.end, life.haproxy.up) == ("answered", "answered", True)
    life.run(600)
    assert life.haproxy.restarts == 1
    assert pair.run == run + 1, "only its sleep at the end"
    rest(life)


def test_a_haproxy_with_other_rules_is_told_nothing(life: Life) -> None:
    """It may lack the tables; the new process has what was deployed meanwhile from its files."""
    life.request("a", 8.0)
    restarted(life)
    told = life.haproxy.state
    life.serve("b")
    life.run(2)
    assert life.haproxy.state is told
    request = life.request("b")
    life.run(10)
    assert request.end == "answered"
    rest(life)


def test_a_haproxy_that_was_replaced_between_the_look_and_the_action_is_restarted_too(life: Life) -> None:
    """The pass has found the right rules; the next one finds the others."""
    life.world.haproxy_s = 1.0
    life.call("sleep", "a")
    life.run(0.5)
    life.haproxy.rules = "flyted-older"
    life.haproxy.process += 1
    life.run(10)
    assert life.haproxy.restarts == 1
    rest(life)


def test_a_restart_of_haproxy_does_not_wait_for_who_does_not_answer(life: Life) -> None:
    """While it hangs nobody knows its rules, and it is left alone."""
    life.haproxy.hangs = True
    restarted(life)
    life.run(60)
    assert life.haproxy.restarts == 0
    life.haproxy.hangs = False
    life.run(20)
    assert life.haproxy.restarts == 1
    rest(life)


def test_an_ingress_that_waits_for_its_socket_gets_it(life: Life) -> None:
    """Somebody has stopped the socket, and starts the service."""
    life.haproxy.end()
    life.haproxy.stop(INGRESS_SOCKET)
    life.run(10)
    assert life.world.listening == (), "an ingress that was stopped stays so"
    life.haproxy.set_unit("activating")
    life.run(1)
    assert life.world.listening == listeners(Listen())
    assert life.haproxy.up
    rest(life)


def test_a_haproxy_that_does_not_say_its_rules_is_restarted(life: Life) -> None:
    """Somebody has started it with a configuration of their own: it is no reason for passes without end."""
    life.haproxy.rules = ""
    life.running.loop.unit_changed(INGRESS_UNIT)
    before = life.running.systemd.looks
    life.run(3)
    assert life.haproxy.restarts == 1
    assert life.running.systemd.looks - before < 20
    rest(life)
