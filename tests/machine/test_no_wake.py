"""Paths that clients ask for by themselves: they neither wake an app nor keep it awake, whatever else happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import users
from tests.machine.kit.apps import state, write
from tests.machine.kit.freezers import freezer, is_frozen_by, until_frozen
from tests.machine.kit.programs import sleeps
from tests.machine.kit.settings import settings
from tests.machine.kit.units import must
from tests.machine.kit.users import curl, forget_apps, until

APP, COLD = "nowake-a", "nowake-f"
PATHS = ("favicon.ico", "robots.txt", "apple-touch-icon-120x120.png")


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_apps("nowake-")


@pytest.fixture(scope="module")
def url() -> str:
    """An app that sleeps after two seconds without a request."""
    return users.serve(write(APP, scaledown=2))


def status(url: str, path: str) -> int:
    """What a client gets there."""
    return curl(f"{url.rstrip('/')}/{path}")[0]


def is_answered(url: str) -> bool:
    """Whether the app, which is woken if it has fallen asleep again, gets these requests."""
    return curl(url)[0] == 200 and status(url, PATHS[0]) != 503


def test_they_do_not_wake_it(url: str) -> None:
    """The ingress answers; any other path wakes it, and then the app answers these, too."""
    until(lambda: sleeps(APP))
    assert [status(url, path) for path in PATHS] == [503] * 3
    assert "retry-after: 60" in curl(f"{url.rstrip('/')}/favicon.ico", "-i")[1].lower()
    assert sleeps(APP)
    until(lambda: is_answered(url))


def test_they_do_not_keep_it_awake(url: str) -> None:
    """A monitor that asks all the time is answered, and the app goes to sleep meanwhile."""
    assert curl(url)[0] == 200
    found = set()

    def asleep() -> bool:
        found.add(status(url, "favicon.ico") == 503)
        return sleeps(APP)

    until(asleep)
    assert False in found, "the app answered while it was awake"
    assert {status(url, path) for path in PATHS} == {503}
    assert sleeps(APP)


def test_a_frozen_app_stays_frozen() -> None:
    """It has not even been asked."""
    url = users.serve(write(COLD, scaledown=1), "--idle", "freeze")
    assert curl(url)[0] == 200
    until_frozen(COLD)
    what = freezer(COLD)
    assert [status(url, path) for path in PATHS] == [503] * 3
    time.sleep(0.5)
    assert is_frozen_by(what)
    until(lambda: is_answered(url))


def test_a_restarted_ingress_knows_who_sleeps_and_who_is_awake(url: str) -> None:
    """Killed while flyted is not there either: the maps on disk are right; other requests wake as ever."""
    until(lambda: sleeps(APP))
    units = ("flyted.socket", "flyted-credentials.socket", "flyted-api.socket", "flyted.service")
    must("systemctl", "stop", *units)
    try:
        must("systemctl", "kill", "-s", "KILL", "--kill-whom=main", "flyted-ingress.service")
        assert status(url, "favicon.ico") == 503
        assert sleeps(APP)
        assert curl(url)[0] == 200
    finally:
        must("systemctl", "start", *units)
    until(lambda: is_answered(url))


def test_the_operator_names_others(url: str) -> None:
    """The page of a monitor; those that are usual count as all else then."""
    with settings('[apps]\nno_wake_paths = ["/health"]'):
        until(lambda: sleeps(APP))
        until(lambda: "/health" in Path("/run/flyted/ingress/haproxy.cfg").read_text())
        until(lambda: status(url, "health") == 503)
        assert sleeps(APP)
        assert status(url, "favicon.ico") != 503
        until(lambda: state(APP) == "sleeping")
