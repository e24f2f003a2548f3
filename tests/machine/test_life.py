"""An app's life: it sleeps, wakes, is replaced, and survives what happens to the daemon and the ingress."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import users
from tests.machine.kit.apps import Load, request, serve, state, trusted, websocket, write
from tests.machine.kit.programs import unit
from tests.machine.kit.units import main_pid
from tests.machine.kit.users import alice, answer, curl, forget_apps, lines_of, refused, running, serving, until

KILLS = int(os.environ.get("FLYTED_TEST_KILLS", "3"))  # 100 before a release


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_apps("life-")


def systemctl(*words: str) -> str:
    """systemctl's answer; it must work."""
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=True).stdout.strip()


def test_an_idle_app_sleeps_and_the_next_request_wakes_it() -> None:
    """After scaledown_after without a request only the socket is left; a request is held, and answered."""
    url = serve("life-nap", scaledown=2)
    service = unit("life-nap")
    assert curl(url)[0] == 200
    began = time.monotonic()
    until(lambda: state("life-nap") == "sleeping")
    assert time.monotonic() - began >= 1.5
    assert systemctl("is-active", service.replace(".service", ".socket")) == "active"
    slept = systemctl("show", "--value", "--property=InactiveEnterTimestampMonotonic", service)
    assert curl(url)[0] == 200
    woken = systemctl("show", "--value", "--property=ActiveEnterTimestampMonotonic", service)
    assert int(woken) > int(slept)


def test_many_wakes_in_a_row_are_no_crash() -> None:
    """systemd's start limit does not count what is no failure."""
    url = serve("life-nap", scaledown=2)
    for _ in range(8):
        alice("flytectl", "app", "sleep", "life-nap")
        assert curl(url)[0] == 200


def test_a_hundred_requests_wake_an_app_once() -> None:
    """All are held and answered by one process."""
    url = serve("life-nap", scaledown=2)
    alice("flytectl", "app", "sleep", "life-nap")

    async def together() -> list[str]:
        tls = trusted()
        return await asyncio.gather(*(request(url, tls) for _ in range(100)))

    assert set(asyncio.run(together())) == {"200"}


def test_streams_and_websockets_keep_an_app_awake() -> None:
    """What is open is not idle, however quiet; when it closes, the clock begins."""
    url = serve("life-nap", scaledown=2)
    service = unit("life-nap")

    async def hold() -> None:
        tls = trusted()
        async with websocket(url, tls) as (reader, writer):
            first = main_pid(service)
            await asyncio.sleep(6)
            assert await asyncio.to_thread(state, "life-nap") == "running"
            writer.write(b"\x81\x82\x00\x00\x00\x00hi")
            assert (await reader.readexactly(9))[2:] == b"echo:hi"
            assert await request(url, tls, path="/stream?n=5") == "200"
            assert main_pid(service) == first

    asyncio.run(hold())
    until(lambda: state("life-nap") == "sleeping")


@pytest.mark.once
def test_kill_9_of_the_daemon_loses_no_request() -> None:
    """No code of ours is in the data path; systemd brings the daemon back, and it finds everything as it was."""
    url = serve("life-load")

    async def kill() -> None:
        for _ in range(KILLS):
            await asyncio.sleep(1)
            await asyncio.to_thread(systemctl, "kill", "--signal=KILL", "flyted.service")

    service = unit("life-load")
    before = main_pid(service)
    assert set(asyncio.run(Load(url).during(KILLS + 1, kill()))) == {"200"}
    until(lambda: systemctl("show", "--value", "--property=ActiveState", "flyted.service") == "active")
    assert state("life-load") == "running"
    assert main_pid(service) == before


def test_an_app_wakes_while_the_daemon_is_down() -> None:
    """systemd starts the app, and the daemon for its credentials if it has any; the request is answered."""
    url = serve("life-load")
    alice("flytectl", "app", "sleep", "life-load")
    systemctl("stop", "flyted.service")
    assert curl(url)[0] == 200
    systemctl("start", "flyted.service")
    assert state("life-load") == "running"


@pytest.mark.once
def test_a_new_revision_takes_over_without_a_lost_request() -> None:
    """Beside the old one, then instead of it."""
    url = serve("life-load", version="1")

    async def replace() -> None:
        load = Load(url)
        await load.during(1)
        file = write("life-load", version="2")
        await load.during(5, asyncio.to_thread(users.serve, file))
        assert set(load.results) == {"200"}

    asyncio.run(replace())
    assert '"version":"2"' in curl(url)[1]
    service = unit("life-load")
    left = [service, service.replace(".service", ".socket")]
    until(lambda: [u["name"] for u in answer("app", "get", "life-load")["units"]] == left)


def test_a_followed_log_goes_on_with_the_next_revision() -> None:
    """``logs -f`` shows the lines of revisions that are served later; it ends by itself when the app is deleted."""
    run = f"here, at {time.time_ns()}, is version "  # the journal may remember an app of this name
    said = f"print('{run}{{}}', flush=True)"
    serve("life-followed", at_start=said.format(1))
    with running("flytectl", "logs", "life-followed", "-f", "-n", "1000") as following:
        seen = lines_of(following)
        for version in (2, 3):
            serve("life-followed", at_start=said.format(version))
            until(lambda words=f"{run}{version}\n": any(line.endswith(words) for line in seen))  # type: ignore[misc]
        alice("flytectl", "app", "delete", "--yes", "--data", "life-followed")
        assert following.wait(60) == 0
    found = [line.split(run)[1].strip() for line in seen if run in line]
    assert found == ["1", "2", "3"]


def test_a_restart_of_the_ingress_serves_the_same() -> None:
    """Its files repeat what it was told at run time."""
    url = serve("life-load", version="2")
    systemctl("restart", "flyted-ingress.service")
    assert curl(url)[0] == 200
    assert answer("app", "get", "life-load")["state"] == "running"
    alice("flytectl", "app", "sleep", "life-load")
    systemctl("stop", "flyted.service")
    systemctl("restart", "flyted-ingress.service")
    assert curl(url)[0] == 200
    systemctl("start", "flyted.service")


@pytest.mark.parametrize(
    ("at_start", "words"),
    [
        ("raise RuntimeError('no luck today')", "RuntimeError: no luck today"),
        ("sys.exit(0)", "it exited without an error before it was ready"),
        ("sys.exit(3)", "status 3"),
        ("os.kill(os.getpid(), 11)", "signal SEGV"),
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
    ],
)
def test_a_failed_redeploy_leaves_the_old_revision_serving(at_start: str, words: str) -> None:
    """The reason and the last lines are shown; requests go on to the old one."""
    url = serve("life-keep", version="good")
    revision = answer("app", "get", "life-keep")["revision"]
    file = write("life-keep", version="bad", at_start=at_start)
    said = refused(*serving(file), status=8)
    assert words in said
    assert f"revision {revision} keeps serving" in said
    assert '"version":"good"' in curl(url)[1]
    app = answer("app", "get", "life-keep")
    assert (app["state"], app["revision"]) == ("running", revision)
    assert words in app["last_failure"]["reason"]
    assert {u["name"].split("-r")[1].split("-")[0] for u in app["units"]} == {str(revision)}


HAPROXY = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=True).stdout.split()[2]
REFUSES = pytest.mark.xfail(
    HAPROXY.startswith("2."),
    reason="HAProxy 2.6 says REFUSED_STREAM for an app that broke off, and clients ask again (its mux_h2.c sets "
    "NOT_FIRST for every stream, which http_ana.c takes for a kept connection)",
)


WHY = "its operator can see why: flytectl app get life-broken\n"


@pytest.mark.parametrize("http", ["--http1.1", pytest.param("--http2", marks=REFUSES)])
@pytest.mark.parametrize(("method", "times"), [("POST", {1}), ("GET", {1, 2})])
def test_a_request_that_kills_its_app_reaches_it_once(http: str, method: str, times: set[int]) -> None:
    """It is answered with 502, and nobody asks again: one crash, and the next request starts the app.

    A GET, which by HTTP may be sent twice, is sent once more if it went over a kept connection.
    """
    url = serve(f"life-dies-{method}{http[-1]}".lower())  # one for each: systemd limits how often an app starts
    began = time.time()
    assert curl(f"{url}/die", http, "--request", method)[0] == 502
    assert curl(url)[0] == 200
    said = subprocess.run(
        ["journalctl", "--output=cat", f"--since=@{began:.3f}", "--unit=flyted-app-life-dies-*.service"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.count("Main process exited") in times


def test_an_app_that_cannot_wake_is_a_503_and_its_operator_sees_why() -> None:
    """It worked when it was deployed; now it dies at each start: visitors get one sentence, and it is tried again.

    That sentence has its name and nothing of its log, from HAProxy and flyted alike; nor have the ingress's tables.
    """
    forget_apps("life-broken")
    marker = "/var/lib/flyted-app-life-broken/broken"
    url = serve("life-broken", at_start=f"if os.path.exists({marker!r}): sys.exit('the disk is on fire')")
    subprocess.run(["touch", f"/var/lib/private/{marker.removeprefix('/var/lib/')}"], check=True)
    alice("flytectl", "app", "sleep", "life-broken")
    held, said = curl(url)  # cut off with the socket, or refused by it
    assert held in (502, 503)
    until(lambda: state("life-broken") == "failed")
    status, body = curl(url)
    assert (status, body) == (503, '503: "life-broken" cannot serve now; ' + WHY)
    assert said.startswith(('502: "life-broken" closed the connection before', body))
    assert said.endswith(WHY)
    tables = Path("/run/flyted/ingress").glob("*.map")
    assert not [table for table in tables if "the disk is on fire" in table.read_text()]
    assert "the disk is on fire" in answer("app", "get", "life-broken")["reason"]
    assert "the disk is on fire" in refused("flytectl", "app", "start", "life-broken", status=8)
    subprocess.run(["rm", f"/var/lib/private/{marker.removeprefix('/var/lib/')}"], check=True)
    alice("flytectl", "app", "start", "life-broken")
    assert state("life-broken") == "running"
    assert curl(url)[0] == 200


def test_serving_a_failed_app_again_says_whether_it_starts() -> None:
    """Its file is unchanged, and that the app is live would not be true."""
    forget_apps("life-failed")
    marker = "/var/lib/flyted-app-life-failed/broken"
    fails = f"if os.path.exists({marker!r}): sys.exit('the disk is on fire')"
    url = serve("life-failed", at_start=fails)
    subprocess.run(["touch", f"/var/lib/private/{marker.removeprefix('/var/lib/')}"], check=True)
    alice("flytectl", "app", "sleep", "life-failed")
    curl(url)
    until(lambda: state("life-failed") == "failed")
    assert "the disk is on fire" in refused(*serving(write("life-failed", at_start=fails)), status=8)
    subprocess.run(["rm", f"/var/lib/private/{marker.removeprefix('/var/lib/')}"], check=True)
    assert serve("life-failed", at_start=fails) == url
    assert state("life-failed") == "running"


def test_a_minimum_of_one_is_kept_running() -> None:
    """replicas=(1, 1): up without a request, up again after a crash, never asleep."""
    serve("life-one", replicas="(1, 1)", scaledown=1)
    service = unit("life-one")
    first = main_pid(service)
    systemctl("kill", "--signal=KILL", service)
    until(lambda: main_pid(service) not in (0, first))
    assert "never sleeps" in refused("flytectl", "app", "sleep", "life-one", status=2)
    until(lambda: state("life-one") == "running")


def test_stop_finishes_what_runs_and_nothing_wakes_it() -> None:
    """A request in flight is answered; later ones get 503; start brings it back."""
    url = serve("life-load", version="2")

    async def stop() -> None:
        tls = trusted()
        slow = asyncio.create_task(request(url, tls, path="/slow?s=10"))
        await asyncio.to_thread(until, lambda: answer("app", "get", "life-load")["requests"]["in_flight"] == 1)
        await asyncio.to_thread(alice, "flytectl", "app", "stop", "life-load")
        assert await slow == "200"

    asyncio.run(stop())
    assert state("life-load") == "stopped"
    assert curl(url)[0] == 503
    assert state("life-load") == "stopped"
    alice("flytectl", "app", "start", "life-load")
    assert curl(url)[0] == 200


def test_delete_leaves_nothing() -> None:
    """Units, state, cache, bundle, route."""
    url = serve("life-gone")
    alice("flytectl", "app", "delete", "--yes", "--data", "life-gone")
    assert curl(url)[0] == 421
    assert systemctl("list-units", "--all", "--plain", "--no-legend", "flyted-app-life-gone-*") == ""
    left = subprocess.run(
        ["find", "/var/lib", "/var/cache", "/run/flyted", "-name", "*life-gone*"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert left.stdout == ""


def test_a_daemon_with_new_rules_restarts_the_ingress_and_itself_in_time() -> None:
    """The ingress is ordered after the daemon: a start of the daemon that waited for it would never end."""
    url = serve("life-load", version="2")
    config = Path("/run/flyted/ingress/haproxy.cfg")
    config.write_text(re.sub(r"(description flyted-\w*)\w$", r"\1x", config.read_text(), flags=re.MULTILINE))
    systemctl("restart", "flyted-ingress.service")
    began = time.monotonic()
    systemctl("restart", "flyted.service")
    assert time.monotonic() - began < 60
    until(lambda: curl(url)[0] == 200)
