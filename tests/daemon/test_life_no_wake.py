"""What clients ask for by themselves, on the machine of ``life.py``: it wakes no app and keeps none awake."""

from __future__ import annotations

from tests.daemon.life import Life, service, up
from tests.daemon.rest import rest
from tests.daemon.world_pairs import Request

ASLEEP = "503 not awake"


def polled(life: Life, seconds: int) -> list[Request]:
    """The requests of a monitor, one every five seconds."""
    found = []
    for _ in range(seconds // 5):
        found.append(life.request("a", by_itself=True))
        life.run(5)
    return found


def test_a_monitor_lets_an_app_sleep_and_does_not_wake_it(life: Life) -> None:
    """It is answered while the app is awake; the app sleeps as without it, one period later at most."""
    replica = up(life)
    life.request("a")
    ends = [each.end for each in polled(life, 65)]
    assert ends[0] == "answered"
    assert service(life, replica) == "inactive"
    assert {each.end for each in polled(life, 60)} == {ASLEEP}
    assert service(life, replica) == "inactive"
    woken = life.request("a")
    life.run(3)
    assert woken.end == "answered"
    assert {each.end for each in polled(life, 10)} == {"answered"}
    rest(life)


def test_visitors_keep_an_app_awake_whatever_a_monitor_does(life: Life) -> None:
    """They come just before the app would sleep."""
    replica = up(life)
    for _ in range(5):
        life.request("a")
        assert {each.end for each in polled(life, 25)} == {"answered"}
        assert service(life, replica) == "active"
    rest(life)


def test_without_the_daemon_all_other_requests_wake_an_app(life: Life) -> None:
    """Only it can say that the app is awake again."""
    replica = up(life)
    life.run(65)
    assert service(life, replica) == "inactive"
    life.end(killed=True)
    woken = life.request("a")
    life.run(3)
    assert (woken.end, {each.end for each in polled(life, 10)}) == ("answered", {ASLEEP})
    life.start()
    life.run(2)
    assert {each.end for each in polled(life, 10)} == {"answered"}
    rest(life)


def test_a_restarted_ingress_knows_who_is_awake(life: Life) -> None:
    """It finds it in its files, and needs nobody for it."""
    up(life)
    life.end(killed=True)
    life.haproxy.restart()
    life.run(1)
    assert {each.end for each in polled(life, 5)} == {"answered"}
    life.start()
    life.run(1)
    rest(life)
