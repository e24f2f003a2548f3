"""The life of apps with several replicas, on the machine of ``life.py``: load, crashes, deploys, and flyted's end."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.names import AppKey, Replica, host_of
from flyted.contract.status import AppState
from flyted.plan.states import replica_states
from flyted.plan.units import STARTS
from tests.daemon.life import Life, service, up
from tests.daemon.rest import rest
from tests.daemon.world_pairs import Request
from tests.daemon.world_units import RESTART_S
from tests.values import DOMAIN

SEVERAL: dict[str, Any] = {"max_replicas": 4, "concurrency": 1}
A = [Replica("a", 1, number) for number in range(4)]
A2 = [Replica("a", 2, number) for number in range(4)]


def serving(life: Life, app: str = "a") -> list[Replica]:
    """The replicas whose services run."""
    return sorted(each for each in life.world.pairs if each.app_id == app and service(life, each) == "active")


def served(life: Life, app: str = "a", **changes: Any) -> None:
    """An app that was deployed, with all the replicas that it begins with."""
    asked = life.serve(app, **changes)
    life.run(3)
    assert asked.end == "done"


def burst(life: Life, count: int, takes_s: float, app: str = "a") -> list[Request]:
    """Requests that come together."""
    return [life.request(app, takes_s) for _ in range(count)]


def trickle(life: Life, seconds: int, takes_s: float = 0.1) -> list[Request]:
    """Two requests a second, one after the other, for so long."""
    found = []
    for _ in range(2 * seconds):
        found.append(life.request("a", takes_s))
        life.run(0.5)
    return found


def busy(life: Life, count: int = 3, takes_s: float = 20.0) -> list[Request]:
    """The app has as many replicas as there are requests, each of which runs for a while."""
    if AppKey("default", "development", "a") not in [each.key for each in life.running.store.apps()]:
        up(life, **SEVERAL)
    found = burst(life, count, takes_s)
    life.run(3)
    assert serving(life) == A[:count]
    return found


def test_replicas_follow_the_load(life: Life) -> None:
    """They start within two seconds, beside the time that a start takes; they go after the period, and then it sleeps.

    Each stops when its last request has ended.
    """
    up(life, **SEVERAL)
    requests = burst(life, 4, 20.0)
    life.run(1.5 + life.world.start_s)
    assert serving(life) == A
    life.run(20)
    assert {each.end for each in requests} == {"answered"}
    assert serving(life) == A
    life.run(35)
    assert sorted(life.world.pairs) == A[:1]
    assert serving(life) == []
    request = life.request("a", 0.1)
    life.run(2)
    assert request.end == "answered"
    assert serving(life) == A[:1]
    rest(life)


def test_requests_are_spread_over_the_replicas(life: Life) -> None:
    """To the one that has the fewest: those that come later do not wait behind the first."""
    busy(life, 3, 5.0)
    life.run(5)
    burst(life, 3, 5.0)
    assert [len(life.world.pairs[each].held) for each in A[:3]] == [1, 1, 1]
    rest(life)


def test_a_stream_at_a_replica_that_is_not_needed_goes_on(life: Life) -> None:
    """For as long as it takes; the others go, and the app is shown as what it is."""
    requests = busy(life, 3, 5.0)
    life.run(10)
    streams = [life.request("a", 900.0) for _ in range(2)]
    life.run(300)
    assert [each.end for each in streams] == ["", ""]
    life.run(700)
    assert [each.end for each in streams] == ["answered", "answered"]
    assert {each.end for each in requests} == {"answered"}
    rest(life)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_crash_of_one_replica_is_no_outage(life: Life, number: int) -> None:
    """Who comes then is answered by the others, and it comes up again; its own requests are lost, and no others."""
    busy(life, 3, 4.0)
    life.run(4)
    life.world.crash(life.world.pairs[A[number]])
    requests = trickle(life, 6)
    assert {each.end for each in requests} == {"answered"}
    assert serving(life) == A[:3]
    rest(life)


def test_a_replica_that_always_crashes_is_tried_again_less_and_less_often(life: Life) -> None:
    """The others serve all the time; the app's state says so, and is still running."""
    served(life, min_replicas=2, max_replicas=2)
    pair = life.world.pairs[A[1]]
    life.world.dying_servers.add(A[1].server)
    life.world.crash(pair)
    requests = trickle(life, 40)
    assert {each.end for each in requests} == {"answered"}
    facts = life.loop.run_until_complete(life.running.loop.facts())
    states = {each.replica.number: each.state for each in replica_states(facts.apps[0], facts)}
    assert states[0] is AppState.RUNNING
    assert states[1] in (AppState.FAILED, AppState.STARTING)
    life.world.dying_servers.clear()
    rest(life)


@pytest.mark.parametrize("killed", [True, False])
def test_a_flyted_that_starts_anew_finds_the_replicas(life: Life, killed: bool) -> None:
    """They serve without it, and go on; what is too many goes after a period."""
    requests = busy(life, 3, 30.0)
    life.end(killed=killed)
    requests += trickle(life, 5)
    life.start()
    requests += trickle(life, 5)
    assert serving(life)[:3] == A[:3]
    life.run(100)
    assert {each.end for each in requests} == {"answered"}
    assert sorted(life.world.pairs) == A[:1]
    rest(life)


def test_a_replica_that_systemd_gives_up_just_after_a_restart_pauses(life: Life) -> None:
    """The flyted that has just begun looked once, and starts a replica of another app; the oracle judges the pause."""
    served(life, min_replicas=2, **SEVERAL)
    served(life, "b", **SEVERAL)
    burst(life, 3, 100.0)
    life.run(3)
    pair = life.world.pairs[A[2]]
    for _ in range(STARTS - 1):
        life.world.crash(pair)
        life.run(RESTART_S + 1)
    life.world.pace(job_s=1.5)
    life.end(killed=True)
    burst(life, 2, 0.7, "b")
    life.start()
    life.run(1.6)
    life.world.crash(pair)
    life.run(RESTART_S + 0.1)
    assert A[2] in life.world.gone
    life.run(10)
    assert A[2] in life.world.pairs
    rest(life)


def test_a_deploy_hands_over_between_replicas(life: Life) -> None:
    """As many of the new revision start as serve before it is switched to; the old ones end with their requests."""
    requests = busy(life, 3, 20.0)
    asked = life.serve("a", **SEVERAL)
    requests += trickle(life, 2)
    assert asked.end == "done"
    state = life.haproxy.state
    assert {each.name for each in state.servers.values() if not each.rests} >= {each.server for each in A2[:3]}
    assert not {each.name for each in state.servers.values() if not each.rests} & {each.server for each in A}
    requests += trickle(life, 30)
    assert {each.end for each in requests} == {"answered"}
    assert {each.revision for each in life.world.pairs} == {2}
    rest(life)


def test_a_deploy_that_fails_leaves_the_replicas(life: Life) -> None:
    """And nothing of its own."""
    requests = busy(life, 3, 20.0)
    asked = life.serve("a", dies=True, **SEVERAL)
    requests += trickle(life, 5)
    assert asked.end.startswith("DeployFailed")
    assert {each.revision for each in life.world.pairs} == {1}
    life.run(30)
    assert {each.end for each in requests} == {"answered"}
    rest(life)


@pytest.mark.parametrize(
    ("first", "second"), [({}, SEVERAL), (SEVERAL, {}), ({"min_replicas": 2, **SEVERAL}, SEVERAL)]
)
def test_the_number_of_replicas_changes_with_a_deploy(
    life: Life, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """From one to several and back: no request is lost between the pool and the server of one."""
    served(life, **first)
    requests = burst(life, 3, 10.0)
    life.run(3)
    asked = life.serve("a", **second)
    requests += trickle(life, 5)
    requests += burst(life, 3, 10.0)
    life.run(5)
    assert asked.end == "done"
    assert len(serving(life)) == (3 if second else 1)
    life.run(60)
    assert {each.end for each in requests} == {"answered"}
    rest(life)


@pytest.mark.parametrize("verb", ["stop", "delete", "sleep"])
def test_verbs_end_all_replicas(life: Life, verb: str) -> None:
    """Their requests are answered first; `sleep` leaves the first one's socket."""
    requests = busy(life, 3, 8.0)
    asked = life.call(verb, "a", **({"keep_data": False} if verb == "delete" else {}))
    life.run(15)
    assert asked.end == "done"
    assert {each.end for each in requests} == {"answered"}
    assert sorted(life.world.pairs) == (A[:1] if verb == "sleep" else [])
    assert serving(life) == []
    if verb == "stop":
        again = life.call("start", "a")
        life.run(5)
        assert (again.end, serving(life)) == ("done", A[:1])
    rest(life)


def test_a_minimum_of_two_always_runs(life: Life) -> None:
    """After each of them ended, and after hours; it cannot be put to sleep."""
    served(life, min_replicas=2, **SEVERAL)
    assert serving(life) == A[:2]
    requests = burst(life, 4, 3.0)
    life.run(2)
    assert serving(life) == A
    life.run(7200)
    assert serving(life) == A[:2]
    assert sorted(life.world.pairs) == A[:2]
    assert life.call("sleep", "a").task
    life.run(1)
    assert life.asked[-1].end.startswith("InvalidInput")
    assert {each.end for each in requests} == {"answered"}
    rest(life)


def test_replicas_need_a_gpu_each(life: Life) -> None:
    """There is one: the app has one replica, whatever its load; another app's start waits for it as ever."""
    up(life, gpu_count=1, **SEVERAL)
    requests = burst(life, 4, 20.0)
    life.run(30)
    assert serving(life) == A[:1]
    assert {each.end for each in requests} == {"answered"}
    rest(life)


def test_the_ingress_leads_to_the_apps_pool(life: Life) -> None:
    """Another app has another one; that of a deleted app is free again."""
    up(life, "a", **SEVERAL)
    up(life, "b", **SEVERAL)
    up(life, "c")
    hosts = life.haproxy.state.hosts
    assert [hosts[host_of(app, DOMAIN)] for app in "abc"] == ["pool-0", "pool-1", "c-r1-0"]
    life.call("delete", "a", keep_data=False)
    life.run(5)
    up(life, "d", **SEVERAL)
    assert life.haproxy.state.hosts[host_of("d", DOMAIN)] == "pool-0"
    rest(life)


@pytest.mark.parametrize(("metric", "steady_s"), [({"concurrency": 2}, 1.0), ({"request_rate": 3}, 0.5), ({}, None)])
def test_an_app_that_has_enough_replicas_is_not_looked_at(
    life: Life, metric: dict[str, Any], steady_s: float | None
) -> None:
    """It always runs, and nobody asks; nor while it has few requests. The request that is too many is heard of."""
    served(life, min_replicas=1, max_replicas=3, **metric)
    life.run(30)
    before = life.running.systemd.looks
    life.run(3600)
    assert life.running.systemd.looks == before
    for _ in range(100 if steady_s else 0):
        life.request("a", 0.1)
        life.run(steady_s or 0.0)
    assert life.running.systemd.looks == before
    for _ in range(12):
        burst(life, 5, 2.0)
        life.run(1)
    life.run(1)
    assert len(serving(life)) > 1
    life.run(200)
    assert serving(life) == A[:1]
    rest(life)


def test_requests_that_cost_little_cpu_time_are_looked_at_less_often(life: Life) -> None:
    """No event tells of CPU time; a stream that waits for others is looked at six times a minute, not sixty."""
    served(life, min_replicas=1, max_replicas=3)
    life.world.computes = False
    life.request("a", 700.0)
    life.run(60)
    before = life.running.systemd.looks
    life.run(600)
    assert 50 < life.running.systemd.looks - before < 70
    rest(life)


def test_load_that_comes_while_flyted_is_away_is_found_when_it_is_back(life: Life) -> None:
    """HAProxy tells nobody then, and goes on."""
    served(life, min_replicas=1, **SEVERAL)
    life.run(30)
    life.end(killed=True)
    requests = burst(life, 3, 60.0)
    life.run(5)
    life.start()
    life.run(5)
    assert serving(life) == A[:3]
    life.run(100)
    assert {each.end for each in requests} == {"answered"}
    rest(life)


def test_looks_cost_nothing_while_no_app_of_several_replicas_runs(life: Life) -> None:
    """Nor where the number of those that run is fixed."""
    up(life, "a", **SEVERAL)
    served(life, "b", min_replicas=2, max_replicas=2)
    life.run(100)
    before = life.running.systemd.looks
    life.run(3600)
    assert life.running.systemd.looks == before
    life.request("a")
    life.run(10)
    assert life.running.systemd.looks - before < 20
    rest(life)
