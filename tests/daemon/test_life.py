"""The whole life of apps, in milliseconds: what a user of the daemon sees, on the machine of ``life.py``."""

from __future__ import annotations

import pytest

from flyted.contract.names import Replica
from tests.daemon.life import Life, service, up
from tests.daemon.rest import rest


def test_an_idle_app_sleeps_and_the_next_request_wakes_it(life: Life) -> None:
    """After its own period and not before; nobody looks while it sleeps."""
    replica = up(life)
    life.run(28)
    assert service(life, replica) == "active"
    life.run(5)
    assert service(life, replica) == "inactive"
    request = life.request("a", 3.0)
    life.run(2)
    assert (request.end, service(life, replica)) == ("", "active")
    life.run(2)
    assert request.end == "answered"
    rest(life)


def test_a_busy_app_does_not_sleep(life: Life) -> None:
    """A request that takes longer than the period keeps it awake; the period begins at its end."""
    replica = up(life)
    request = life.request("a", 100.0)
    life.run(105)
    assert (request.end, service(life, replica)) == ("answered", "active")
    rest(life)


def test_a_deploy_hands_over_without_losing_a_request(life: Life) -> None:
    """What runs ends in the old revision, which then goes; what comes goes to the new one."""
    old = up(life)
    running = life.request("a", 40.0)
    asked = life.serve("a")
    life.run(2)
    new = Replica("a", 2)
    later = life.request("a")
    life.run(20)
    assert (asked.end, later.end) == ("done", "answered")
    assert (service(life, old), service(life, new)) == ("active", "active")
    life.run(30)
    assert (running.end, service(life, old)) == ("answered", "")
    rest(life)


def test_a_drain_has_an_end(life: Life) -> None:
    """A request that goes on for longer than the drain and a stop may take is cut."""
    old = up(life)
    running = life.request("a", 1000.0)
    life.serve("a")
    life.run(85)
    assert running.end == ""
    life.run(15)
    assert (running.end, service(life, old)) == ("a stop cut it short", "")
    rest(life)


@pytest.mark.parametrize("how", ["dies", "build"])
def test_a_deploy_that_fails_leaves_the_old_revision(life: Life, how: str) -> None:
    """It serves all the time."""
    old = up(life)
    asked = life.serve("a", dies=True) if how == "dies" else life.serve("a", build="broken-package")
    requests = []
    for _ in range(10):
        life.run(1)
        requests.append(life.request("a"))
    life.run(1)
    assert {request.end for request in requests} == {"answered"}
    assert asked.end.startswith("DeployFailed" if how == "dies" else "BuildFailed")
    assert list(life.world.pairs) == [old]
    rest(life)


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.015, 0.3, 3.0, 5.2])
def test_a_stop_calls_off_a_deploy(life: Life, after_s: float) -> None:
    """At whatever moment of the way."""
    up(life)
    asked = life.serve("a", build="httpx")
    life.run(after_s)
    stop = life.call("stop", "a")
    life.run(10)
    assert asked.end.startswith("DeployFailed: the deploy of app 'a' was cancelled")
    assert (stop.end, life.world.pairs) == ("done", {})
    assert life.request("a").end.startswith('503 "a" is stopped')
    rest(life)


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.3, 2.0])
def test_a_daemon_that_ends_in_a_deploy_leaves_the_old_revision(life: Life, after_s: float, killed: bool) -> None:
    """Its next start clears up; requests are answered without it."""
    old = up(life)
    life.world.start_s = 1.0
    life.serve("a")
    life.run(after_s)
    life.end(killed=killed)
    request = life.request("a")
    life.run(100)
    life.start()
    life.run(10)
    assert request.end == "answered"
    serving = life.running.store.app("a").serving
    assert list(life.world.pairs) == [Replica("a", serving or 0)]
    assert serving == (2 if after_s == 2.0 else old.revision)
    rest(life)


def test_an_app_that_dies_at_each_start_is_tried_again_less_and_less_often(life: Life) -> None:
    """systemd tries three times, flyted after 2, 10, 60 and then every 300 seconds; visitors get 503 meanwhile."""
    up(life)
    life.call("sleep", "a")
    life.run(1)
    life.world.dying.add("a")
    pauses = []
    for _ in range(5):
        life.request("a")
        life.run(3)  # three starts
        assert not life.world.pairs
        assert life.request("a").end.startswith('503 "a" cannot serve now')
        began = life.world.now
        while not life.world.pairs:
            life.run(1)
        pauses.append(life.world.now - began)
    assert pauses == [pytest.approx(expected, abs=3) for expected in (1, 8, 58, 298, 298)]
    life.world.dying.clear()
    rest(life)


def test_a_start_of_an_app_that_is_given_up_meanwhile_says_why(life: Life) -> None:
    """Its units are gone when systemd would be asked to start them: that is no error of systemd's."""
    replica = up(life)
    life.world.pace(job_s=0.01, haproxy_s=1.0)
    life.world.dying.add("a")
    life.world.crash(life.world.pairs[replica])
    life.request("a")
    life.run(10)  # given up, and made anew
    life.request("a")
    life.run(1)
    asked = life.call("start", "a")
    life.run(10)
    assert asked.end.startswith("DeployFailed: app 'a' did not start")
    life.world.dying.clear()
    rest(life)


def test_a_deletion_leaves_nothing(life: Life) -> None:
    """Neither units nor an entry; the name is free for another app."""
    up(life)
    gone = life.call("delete", "a", keep_data=False)
    life.run(5)
    assert (gone.end, life.world.pairs, life.running.store.apps()) == ("done", {}, ())
    assert life.request("a").end == "404"
    up(life)
    rest(life)


def test_no_start_document_stays_of_a_pair_that_ended_by_itself(life: Life) -> None:
    """systemd gave the old revision up while the new one was deployed: nobody stops it any more."""
    old = up(life)
    asked = life.serve("a")
    life.run(0.2)
    life.world.dying.add("a")
    pair = life.world.pairs[old]
    for _ in range(4):
        pair.began.append(life.world.now)
    life.world.crash(pair)
    life.world.dying.clear()
    life.request("a")
    life.run(5)
    assert asked.end == "done"
    assert [path.name for path in (life.world.folder / "starts").iterdir()] == [Replica("a", 2).service]
    rest(life)


def test_no_start_document_stays_of_units_that_systemd_could_not_be_asked_for(life: Life) -> None:
    """The connection to systemd was lost as a revision started, and while the deploy cleared up."""
    up(life)
    life.world.job_s = 1.0
    asked = life.serve("a")
    life.run(0.1)
    life.world.connect(bus=False)
    life.run(1)
    life.world.connect(bus=True)
    life.run(30)
    assert "the connection to systemd was lost" in asked.end
    assert [path.name for path in (life.world.folder / "starts").iterdir()] == [Replica("a", 1).service]
    rest(life)


def test_a_stop_waits_for_a_request_that_waits_for_a_start(life: Life) -> None:
    """The app wakes for it as it is stopped, and no other app runs: the request is answered first."""
    up(life)
    life.run(40)
    request = life.request("a")
    stop = life.call("stop", "a")
    life.run(5)
    assert (request.end, stop.end) == ("answered", "done")
    rest(life)


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_a_stop_waits_for_a_renewal_that_has_begun(life: Life, verb: str) -> None:
    """Between the old units and the new ones there is none for a moment."""
    up(life)
    life.end(killed=True)
    life.upgrades += 1
    life.start()
    assert life.until("RenewPair", 75) == "a"
    life.request("a")
    asked = life.call(verb, "a", **({"keep_data": False} if verb == "delete" else {}))
    life.run(60)
    assert asked.end == "done"
    assert life.world.faults == []
    assert life.world.pairs == {}


def test_an_app_that_serves_again_has_no_failure_any_more(life: Life) -> None:
    """The next one counts as the first: it is tried again after two seconds, not after ten."""
    replica = up(life)
    for _ in range(3):
        life.world.dying.add("a")
        life.world.crash(life.world.pairs[replica])
        life.request("a")
        life.run(3)
        assert replica not in life.world.pairs
        life.world.dying.clear()
        life.run(2)
        request = life.request("a")
        life.run(1)
        assert request.end == "answered"
    rest(life)


@pytest.mark.parametrize("verb", ["sleep", "start", "serve"])
def test_a_verb_that_comes_between_a_decision_and_its_action_goes_first(life: Life, verb: str) -> None:
    """A pass has found the app idle, and HAProxy takes its time: the pass leaves the app to the verb."""
    up(life)
    life.world.pace(job_s=4.0, haproxy_s=1.0)
    assert life.until("Sleep", 60) == "a"
    asked = life.serve("a") if verb == "serve" else life.call(verb, "a")
    life.run(60)
    assert asked.end == "done"
    rest(life)
