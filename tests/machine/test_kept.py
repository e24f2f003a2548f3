"""Connections that the ingress keeps to apps lose no request, whatever happens to app, daemon and ingress."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest

from tests.machine.kit import users
from tests.machine.kit.apps import state
from tests.machine.kit.kept_load import Mixed, write
from tests.machine.kit.programs import unit
from tests.machine.kit.users import alice, answer, curl, forget_apps, until

COUNT = int(os.environ.get("FLYTED_TEST_REQUESTS", "2000"))  # per case; 100,000 once for a change of this
PAUSE_S = (0.2, 1.2)


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_apps("kept-")


def kept() -> str:
    """The running HAProxy's map of kept connections."""
    asked = subprocess.run(
        ["python3", "-c", ASK],
        capture_output=True,
        text=True,
        check=True,
        input="show map /run/flyted/ingress/kept.map",
    )
    return asked.stdout


ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as admin:
    admin.connect("/run/flyted/admin.sock")
    admin.sendall(sys.stdin.read().encode() + b"\\n")
    while data := admin.recv(65536):
        print(data.decode(), end="")
"""


def connections(name: str) -> int:
    """How many connections there are to an app's socket."""
    shown = subprocess.run(["ss", "-xH", "state", "established"], capture_output=True, text=True, check=True).stdout
    return sum(f"flyted-app-{name}-r" in line or f"/apps/{name}-r" in line for line in shown.splitlines())


async def reset_starts() -> None:
    """Have systemd forget how often the app was started of late, as flyted does when it stops one itself."""
    await asyncio.to_thread(subprocess.run, ["systemctl", "reset-failed", unit("kept-load")], check=False)


async def pause() -> None:
    """Let the load go on for a moment that is another one each time."""
    low, high = PAUSE_S
    await asyncio.sleep(random.uniform(low, high))


def load_over(name: str, url: str, work: Awaitable[object]) -> Mixed:
    """The whole load while something is done."""
    load = Mixed(url, name)
    asyncio.run(load.during(COUNT, work))
    return load


def test_an_app_is_in_the_map_while_it_is_awake() -> None:
    """From the pass that finds it running to the moment that it is to stop."""
    url = users.serve(write("kept-map"))
    until(lambda: " kept-map-r1-0 kept" in kept())
    for _ in range(5):
        assert curl(f"{url}/pid")[0] == 200
    alice("flytectl", "app", "sleep", "kept-map")
    assert "kept-map" not in kept()
    assert connections("kept-map") == 0
    assert curl(f"{url}/pid")[0] == 200
    until(lambda: " kept-map-r1-0 kept" in kept())
    subprocess.run(["systemctl", "stop", unit("kept-map")], check=True)
    until(lambda: "kept-map" not in kept())
    alice("flytectl", "app", "stop", "kept-map")
    assert "kept-map" not in kept()
    assert Path("/run/flyted/ingress/kept.map").read_bytes() == b"", "a HAProxy that starts keeps nothing"


def test_sleeps_lose_nothing() -> None:
    """By command, in the midst of all of it."""
    url = users.serve(write("kept-load"))

    async def sleeps() -> None:
        for _ in range(8):
            await pause()
            await asyncio.to_thread(until, lambda: state("kept-load") == "running")
            await asyncio.to_thread(alice, "flytectl", "app", "sleep", "kept-load")

    load = load_over("kept-load", url, sleeps())
    load.nothing_is_lost_or_doubled(COUNT)
    assert set(load.others) <= {"stream", "websocket", r"websocket: b'\x88\x02\x03\xf4'"}, "1012: it restarts"


def test_redeploys_lose_nothing() -> None:
    """The old revision goes with its connections while the new one answers."""
    url = users.serve(write("kept-load"))

    async def deploys() -> None:
        for version in range(4):
            await pause()
            await asyncio.to_thread(users.serve, write("kept-load", f"again {version}"))

    load = load_over("kept-load", url, deploys())
    load.nothing_is_lost_or_doubled(COUNT)
    assert set(load.others) == {"stream", "websocket"}


def test_restarts_of_the_daemon_and_stops_by_hand_lose_nothing() -> None:
    """A new daemon finds what HAProxy has; launch ends connections by itself when somebody else stops the app."""
    url = users.serve(write("kept-load"))

    async def restarts() -> None:
        for number in range(6):
            await asyncio.to_thread(until, lambda: state("kept-load") == "running")
            await pause()
            words = ("restart", "flyted.service") if number % 2 else ("stop", unit("kept-load"))
            await reset_starts()
            await asyncio.to_thread(subprocess.run, ["systemctl", *words], check=True)

    load = load_over("kept-load", url, restarts())
    load.nothing_is_lost_or_doubled(COUNT)


def test_scaling_down_loses_nothing() -> None:
    """Replicas come for the load, and go one by one while it is there."""
    name = "kept-pool"
    url = users.serve(write(name, replicas="(0, 3)", metric=", metric=flyte.app.Scaling.Concurrency(2)", scaledown=3))

    def replicas() -> int:
        return len(answer("app", "get", name)["replicas"])

    async def goes() -> None:
        burst = Mixed(url, name, rate=600)
        await burst.during(600)
        burst.nothing_is_lost_or_doubled(600)
        await asyncio.to_thread(until, lambda: replicas() == 1, 90)

    load = Mixed(url, name, rate=60)
    asyncio.run(load.during(COUNT // 2, goes()))
    load.nothing_is_lost_or_doubled(COUNT // 2)


def test_a_killed_app_loses_what_it_had_accepted_and_no_post_is_sent_twice() -> None:
    """As ever; of those that may be sent twice, fewer: only if the second kept connection ends just then, too."""
    load = Mixed(users.serve(write("kept-load")), "kept-load")
    kills = 4

    async def dies() -> None:
        for _ in range(kills):
            await asyncio.to_thread(until, lambda: state("kept-load") == "running")
            await pause()
            await reset_starts()
            # after a start on a busy machine it accepts a hundred at once
            await asyncio.to_thread(until, lambda: load.waiting <= 5)
            await asyncio.to_thread(subprocess.run, ["systemctl", "kill", "-s", "KILL", unit("kept-load")], check=True)

    asyncio.run(load.during(COUNT, dies()))
    assert len(load.lost) <= 5 * kills, load.lost
    posts = {number for number, (method, _said) in load.answers.items() if method == "POST"}
    assert {number: times for number, times in load.seen.items() if number in posts and times > 1} == {}
