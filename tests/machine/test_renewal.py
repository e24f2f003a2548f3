"""Units that are made otherwise now: by another version of flyted, or with another setting of the operator's."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.apps import request, serve, trusted
from tests.machine.kit.settings import SETTINGS, settings
from tests.machine.kit.users import alice, curl, forget_apps, until

ASLEEP, AWAKE = "renewed-asleep", "renewed-awake"
CLIENTS = 20


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The settings are those of before at the end; the tests write others."""
    with settings(""):
        yield
        forget_apps("renewed-")


def restart_with(start_s: int) -> None:
    """flyted with another setting, of which each unit knows."""
    SETTINGS.write_text(f"[apps]\nstart_timeout = {start_s}\n")
    subprocess.run(["systemctl", "restart", "flyted"], check=True)


def shown(name: str, key: str) -> str:
    """A property of an app's service, as systemd has it."""
    words = ["systemctl", "show", "--value", f"--property={key}", f"flyted-app-{name}-r1-0.service"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def limit(name: str) -> str:
    """How long a start of an app may take."""
    return shown(name, "TimeoutStartUSec")


def test_an_app_that_sleeps_has_new_units_at_once_and_one_that_runs_when_it_sleeps() -> None:
    """The one that runs answers all the time, by the same process; the other wakes when it is asked."""
    asleep, awake = serve(ASLEEP), serve(AWAKE)
    assert curl(awake)[0] == 200
    alice("flytectl", "app", "sleep", ASLEEP)
    before = shown(AWAKE, "MainPID")
    restart_with(201)
    until(lambda: limit(ASLEEP) == "3min 21s")
    assert shown(ASLEEP, "ActiveState") == "inactive", "nothing has woken it"
    assert limit(AWAKE) == "5min"
    assert curl(awake)[0] == 200
    until(lambda: curl(asleep)[0] == 200)  # its socket comes back a moment after its service
    assert shown(AWAKE, "MainPID") == before
    alice("flytectl", "app", "sleep", AWAKE)
    until(lambda: limit(AWAKE) == "3min 21s")
    assert curl(awake)[0] == 200


def test_who_comes_while_units_are_made_anew_is_answered() -> None:
    """By the app, or in the moment without a socket by the ingress; nobody hangs."""
    url = serve(ASLEEP)
    alice("flytectl", "app", "sleep", ASLEEP)
    away: list[float] = []

    async def story() -> None:
        tls = trusted()
        restart = asyncio.create_task(asyncio.to_thread(restart_with, 210))
        while not restart.done() or limit(ASLEEP) != "3min 30s":
            found = await asyncio.gather(*(request(url, tls) for _ in range(CLIENTS)))
            assert set(found) <= {"200", "503"}
            if "503" in found:
                away.append(time.monotonic())
            if restart.done():
                await asyncio.to_thread(alice, "flytectl", "app", "sleep", ASLEEP)

    asyncio.run(story())
    assert not away or away[-1] - away[0] < 10
    assert curl(url)[0] == 200


def test_units_of_the_first_version_are_made_anew() -> None:
    """It wrote nothing down beside them; the app is served by the units of now, and keeps what it was told."""
    url = serve(ASLEEP)
    alice("flytectl", "app", "sleep", ASLEEP)
    Path(f"/run/flyted/starts/flyted-app-{ASLEEP}-r1-0.service").unlink()
    before = shown(ASLEEP, "InvocationID")
    restart_with(202)
    until(lambda: limit(ASLEEP) == "3min 22s")
    assert curl(url)[0] == 200
    assert shown(ASLEEP, "InvocationID") != before
