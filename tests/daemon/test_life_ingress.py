"""The whole life of apps while HAProxy is slow, away or silent, in milliseconds, on the machine of ``life.py``."""

from __future__ import annotations

from flyted.contract.names import Replica
from tests.daemon.life import Life, service, up
from tests.daemon.rest import rest


def test_a_revision_that_comes_up_while_haproxy_is_asked_is_not_made_anew(life: Life) -> None:
    """A pass has listed the units and waits for HAProxy: meanwhile the new revision starts and serves."""
    up(life)
    life.world.haproxy_s = 3.0
    asked = life.serve("a")
    life.run(0.7)
    assert life.running.store.app("a").serving == 2
    life.run(30)
    assert asked.end == "done"
    rest(life)


def test_while_haproxy_is_away_requests_wait_and_apps_go_on(life: Life) -> None:
    """The app does not sleep while nobody knows whether it is idle; the request is served when HAProxy is back."""
    replica = up(life)
    life.haproxy.end()
    life.run(10)
    request = life.request("a")
    life.run(10)
    assert (request.end, service(life, replica)) == ("", "active")
    life.haproxy.begin()
    life.run(1)
    assert request.end == "answered"
    rest(life)


def test_a_request_that_comes_just_before_a_sleep_is_not_cut(life: Life) -> None:
    """A pass has found the app idle, and tells HAProxy, which takes a second: meanwhile a long request comes."""
    replica = up(life)
    life.request("a")
    life.run(29)
    life.world.haproxy_s = 1.0
    life.run(4)
    request = life.request("a", 100.0)
    life.run(110)
    assert request.end == "answered", service(life, replica)
    rest(life)


def test_while_haproxy_does_not_answer_flyted_what_drains_is_not_taken_for_idle(life: Life) -> None:
    """It serves, and its admin socket is stuck: requests of an app that is stopped have their whole drain."""
    up(life)
    request = life.request("a", 55.0)
    life.haproxy.hangs = True
    stop = life.call("stop", "a")
    life.run(70)
    assert request.end == "answered"
    life.run(40)
    assert stop.end == "done"
    rest(life)


def test_what_haproxy_could_not_be_told_of_is_not_taken_for_drained(life: Life) -> None:
    """An app that sleeps is stopped, and HAProxy is stuck for a while: it goes on sending requests to the app.

    One comes while a pass that has seen the app asleep waits for HAProxy, which then answers.
    """
    up(life)
    life.run(40)
    life.haproxy.hangs = True
    stop = life.call("stop", "a")
    life.run(20)
    looks = life.running.systemd.looks
    while life.running.systemd.looks == looks:
        life.run(0.01)
    life.run(0.02)
    request = life.request("a", 20.0)
    life.haproxy.hangs = False
    life.run(100)
    assert (request.end, stop.end) == ("answered", "done")
    rest(life)


def test_while_haproxy_cannot_be_told_of_a_new_revision_the_old_one_stays(life: Life) -> None:
    """HAProxy goes on sending requests to the old one, for however long."""
    up(life)
    life.haproxy.hangs = True
    life.serve("a")
    requests = []
    for _ in range(20):
        life.run(10)
        requests.append(life.request("a"))
    life.run(1)
    assert {request.end for request in requests} == {"answered"}
    life.haproxy.hangs = False
    life.run(70)
    assert list(life.world.pairs) == [Replica("a", 2)]
    rest(life)


def test_a_revision_that_comes_up_while_haproxy_is_asked_keeps_its_start_document(life: Life) -> None:
    """The pass began before the deploy, and knows nothing of it."""
    up(life)
    life.run(25)
    life.world.haproxy_s = 1.0
    life.request("a", 0.0)
    life.world.start_s = 0.2
    life.run(29.5)
    asked = life.serve("a")
    life.run(100)
    assert asked.end == "done"
    rest(life)
