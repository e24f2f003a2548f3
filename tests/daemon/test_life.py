"""The whole life of apps, in milliseconds: what a user of the daemon sees, on the machine of ``life.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.contract.names import Replica
from tests.daemon.life import Life


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    """A machine without apps."""
    found = Life(tmp_path, monkeypatch)
    yield found
    found.close()


def up(life: Life, app: str = "a", **changes: object) -> Replica:
    """An app that was served, and runs."""
    asked = life.serve(app, **changes)  # type: ignore[arg-type]
    life.run(1)
    assert asked.end == "done"
    return next(replica for replica in life.world.pairs if replica.app_id == app)


def service(life: Life, replica: Replica) -> str:
    """What systemd says of a service."""
    return life.world.pairs[replica].service if replica in life.world.pairs else ""


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
    life.rest()


def test_a_busy_app_does_not_sleep(life: Life) -> None:
    """A request that takes longer than the period keeps it awake; the period begins at its end."""
    replica = up(life)
    request = life.request("a", 100.0)
    life.run(105)
    assert (request.end, service(life, replica)) == ("answered", "active")
    life.rest()


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
    life.rest()


def test_a_drain_has_an_end(life: Life) -> None:
    """A request that goes on for longer than the drain and a stop may take is cut."""
    old = up(life)
    running = life.request("a", 1000.0)
    life.serve("a")
    life.run(85)
    assert running.end == ""
    life.run(15)
    assert (running.end, service(life, old)) == ("a stop cut it short", "")
    life.rest()


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
    life.rest()


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
    life.rest()


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
    life.rest()


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
    life.rest()


def test_idle_apps_give_their_gpu_and_busy_ones_do_not(life: Life) -> None:
    """The second app waits for the first one's request; then it gets the GPU, whose memory has come back."""
    first = up(life, "g", gpu_count=1, scaledown_after_s=300.0)
    running = life.request("g", 15.0)
    asked = life.serve("h", gpu_count=1)
    life.run(14)
    assert (asked.end, service(life, first)) == ("", "active")
    life.run(14)
    assert (running.end, asked.end, service(life, first)) == ("answered", "done", "inactive")
    assert life.world.pairs[Replica("h", 1)].devices == ("GPU-1",)
    life.rest()


def test_a_start_that_gets_no_gpu_in_time_fails_and_is_tried_again(life: Life) -> None:
    """Its visitor hears 503; when there is a GPU, the next one is served."""
    up(life, "g", gpu_count=1)
    holder = life.request("g", 100.0)
    asked = life.serve("h", gpu_count=1)
    life.run(40)
    assert asked.end.startswith("DeployFailed: revision 1 of app 'h' did not come up")
    assert any("held by g (busy)" in text for text in asked.says)
    life.run(100)
    assert holder.end == "answered"
    life.rest()


def test_a_lost_gpu_takes_its_app_down_until_it_is_back(life: Life) -> None:
    """The app backs off, and serves again behind the reset."""
    replica = up(life, "g", gpu_count=1)
    life.world.gpus.lose("GPU-1", heard=True)
    life.run(1)
    assert service(life, replica) in ("", "inactive")
    life.world.gpus.restore()
    life.run(20)
    request = life.request("g")
    life.run(5)
    assert request.end == "answered"
    life.rest()


def test_a_daemon_that_restarts_knows_who_holds_a_gpu(life: Life) -> None:
    """It neither takes it away nor gives it twice."""
    replica = up(life, "g", gpu_count=1, scaledown_after_s=300.0)
    life.request("g", 20.0)
    life.end(killed=True)
    life.run(3)
    life.start()
    asked = life.serve("h", gpu_count=1)
    life.run(10)
    assert (asked.end, service(life, replica)) == ("", "active")
    life.run(30)
    assert asked.end == "done"
    life.rest()


def test_a_revision_that_comes_up_while_haproxy_is_asked_is_not_made_anew(life: Life) -> None:
    """A pass has listed the units and waits for HAProxy: meanwhile the new revision starts and serves."""
    up(life)
    life.world.haproxy_s = 3.0
    asked = life.serve("a")
    life.run(0.7)
    assert life.running.store.app("a").serving == 2
    life.run(30)
    assert asked.end == "done"
    life.rest()


def test_a_deletion_leaves_nothing(life: Life) -> None:
    """Neither units nor an entry; the name is free for another app."""
    up(life)
    gone = life.call("delete", "a", keep_data=False)
    life.run(5)
    assert (gone.end, life.world.pairs, life.running.store.apps()) == ("done", {}, ())
    assert life.request("a").end == "404"
    up(life)
    life.rest()


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
    life.rest()


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
    life.rest()


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
    life.rest()


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
    life.rest()


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
    life.rest()


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
    life.rest()


def test_a_stop_waits_for_a_request_that_waits_for_a_start(life: Life) -> None:
    """The app wakes for it as it is stopped, and no other app runs: the request is answered first."""
    up(life)
    life.run(40)
    request = life.request("a")
    stop = life.call("stop", "a")
    life.run(5)
    assert (request.end, stop.end) == ("answered", "done")
    life.rest()


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
    life.rest()


def test_nothing_is_done_to_an_app_while_somebody_starts_it(life: Life) -> None:
    """Its GPU was lost, and the loop takes its units down as the verb comes: one after the other."""
    up(life, "g", gpu_count=1)
    life.world.job_s = 2.0
    life.world.gpus.lose("GPU-1", heard=True)
    life.run(1)
    asked = life.call("start", "g")
    life.run(60)
    assert asked.end
    life.rest()
