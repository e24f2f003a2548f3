"""Apps whose processes are frozen while nobody needs them: their next request thaws them, whatever else happens."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine.kit import programs, users
from tests.machine.kit.apps import request, state, trusted, websocket, write
from tests.machine.kit.freezers import APPS, freezer, is_frozen_by, until_frozen
from tests.machine.kit.programs import unit
from tests.machine.kit.settings import settings
from tests.machine.kit.units import main_pid, must, sh
from tests.machine.kit.users import alice, answer, curl, forget_apps, give, until

APP = "freeze-a"
RACES = int(os.environ.get("FLYTED_TEST_FREEZES", "8"))


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_apps("freeze-")


@pytest.fixture(scope="module")
def url() -> str:
    """An app that is frozen after a second without a request."""
    return users.serve(write(APP, scaledown=1), "--idle", "freeze")


@contextmanager
def without_daemon() -> Iterator[None]:
    """Nobody but PID 1 and the ingress is there."""
    units = ("flyted.socket", "flyted-credentials.socket", "flyted-api.socket", "flyted.service")
    must("systemctl", "stop", *units)
    try:
        yield
    finally:
        must("systemctl", "start", *units)


def pid(name: str) -> int:
    """The app's main process."""
    return main_pid(unit(name))


def until_it_is(word: str, name: str) -> None:
    """As flytectl says."""
    until(lambda: state(name) == word)


def test_an_idle_app_is_frozen_and_its_next_request_thaws_it(url: str) -> None:
    """The same process answers; and all that shows an app says what it is."""
    assert curl(url)[0] == 200
    before = pid(APP)
    until_it_is("frozen", APP)
    found = answer("app", "get", APP)
    assert (found["idle"], [each["state"] for each in found["replicas"]]) == ("freeze", ["frozen"])
    assert "frozen" in alice("flytectl", "app", "ls").stdout
    assert (
        "after 1 s without a request, frozen and stopped 3600 s later" in alice("flytectl", "app", "get", APP).stdout
    )
    what = freezer(APP)
    for _ in range(2):
        until_frozen(APP)
        assert curl(url)[0] == 200
        assert not is_frozen_by(what)
        assert pid(APP) == before


def test_requests_that_come_just_then_are_answered(url: str) -> None:
    """Around the moment at which it is frozen, of both kinds, some of them long: none is lost."""
    random.seed(14)

    async def clients() -> list[str]:
        tls, found = trusted(), []
        for number in range(RACES):
            await asyncio.sleep(random.uniform(1.0, 3.2))
            paths = ("/", "/slow?s=1.5") if number % 4 == 0 else ("/",)
            method = "POST" if number % 2 else "GET"
            found += await asyncio.gather(
                *(request(url, tls, "GET" if path != "/" else method, path, seconds=20) for path in paths)
            )
        return found

    log = sh("journalctl", "-q", "--show-cursor", "-n", "0").rpartition(" ")[2].strip()
    assert set(asyncio.run(clients())) == {"200"}
    frozen = sh("journalctl", "-q", "--after-cursor", log, "-u", "flyted", "-g", "app freeze-a is frozen", "-o", "cat")
    assert len(frozen.splitlines()) >= RACES / 4, frozen


def test_an_open_websocket_keeps_it_from_being_frozen(url: str) -> None:
    """However quiet it is."""
    what = freezer(APP)

    async def hold() -> None:
        async with websocket(url, trusted()) as (reader, writer):
            for _ in range(8):
                await asyncio.sleep(0.5)
                assert not is_frozen_by(what)
            writer.write(b"\x81\x82\x00\x00\x00\x00hi")
            assert (await reader.readexactly(9))[2:] == b"echo:hi"

    asyncio.run(hold())
    until_frozen(APP)


def test_it_thaws_without_the_daemon(url: str) -> None:
    """Neither flyted nor its sockets have to be there."""
    assert curl(url)[0] == 200
    until_frozen(APP)
    what = freezer(APP)
    with without_daemon():
        assert curl(url)[0] == 200
        assert not is_frozen_by(what)
    until_frozen(APP)


@pytest.mark.parametrize("whom", ["main", "all"])
def test_it_thaws_although_what_keeps_it_frozen_is_killed(url: str, whom: str) -> None:
    """PID 1 runs the unit's last step, and starts the unit again, without the daemon."""
    assert curl(url)[0] == 200
    before = pid(APP)
    until_frozen(APP)
    what = freezer(APP)
    with without_daemon():
        for _ in range(2):
            must("systemctl", "kill", "--signal=KILL", f"--kill-whom={whom}", what)
            until(lambda: sh("systemctl", "is-active", what) == "active")
        assert curl(url)[0] == 200
    assert pid(APP) == before


def test_what_keeps_it_frozen_can_do_little(url: str) -> None:
    """It has no capability and one descriptor of the app's: the socket at which it waits."""
    assert curl(url)[0] == 200
    until_frozen(APP)
    number = str(main_pid(freezer(APP)))
    lines = Path(f"/proc/{number}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert {status[each] for each in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    opened = {each.name: str(each.readlink()) for each in Path(f"/proc/{number}/fd").iterdir()}
    assert [name for name, what in opened.items() if what.startswith("socket:") and name not in "012"] == ["3"]
    inside = ("nsenter", "-t", number, "-m", "-n")
    for folder in ("/run/flyted", "/run/dbus", "/var/lib", "/home/alice"):
        assert Path(folder).exists()
        assert sh(*inside, "sh", "-c", f"ls -A {folder} 2>/dev/null") == "", folder
    assert "flyted" in sh(*inside, "ls", "-A", "/usr/lib/flyted")
    assert len(sh(*inside, "ip", "-o", "link").splitlines()) == 1


def test_a_frozen_app_that_is_killed_or_stopped_by_hand_wakes(url: str) -> None:
    """A frozen process cannot end by itself: the unit that froze it is stopped first."""
    for what in (("kill", "--signal=KILL"), ("stop",)):
        assert curl(url)[0] == 200
        until_frozen(APP)
        subprocess.run(["systemctl", *what, unit(APP)], check=True, timeout=20)
        until(lambda: sh("systemctl", "is-active", freezer(APP)) != "active")
        assert curl(url)[0] == 200


@pytest.mark.long
def test_pid_1_that_begins_anew_keeps_it_frozen(url: str) -> None:
    """As at an upgrade of systemd."""
    assert curl(url)[0] == 200
    until_frozen(APP)
    must("systemctl", "daemon-reexec")
    must("systemctl", "daemon-reload")
    assert is_frozen_by(freezer(APP))
    assert curl(url)[0] == 200
    until_frozen(APP)


@pytest.mark.parametrize("verb", [pytest.param("sleep", marks=pytest.mark.long), "stop", "start"])
def test_what_users_type_works_on_a_frozen_app(url: str, verb: str) -> None:
    """To sleep stops it; to start what is there changes nothing."""
    assert curl(url)[0] == 200
    until_frozen(APP)
    alice("flytectl", "app", verb, APP)
    assert state(APP) in {"sleep": ("sleeping",), "stop": ("stopped",), "start": ("frozen", "running")}[verb]
    alice("flytectl", "app", "start", APP)
    assert curl(url)[0] == 200


@pytest.mark.long
def test_a_frozen_app_is_replaced(url: str) -> None:
    """Its old revision is stopped as any other."""
    assert curl(url)[0] == 200
    until_frozen(APP)
    old = unit(APP)
    assert users.serve(write(APP, scaledown=1, version="2"), "--idle", "freeze") == url
    assert '"version":"2"' in curl(url)[1]
    until(lambda: not (APPS / old).exists())


@pytest.mark.long
def test_it_is_stopped_when_it_has_been_frozen_for_long(url: str) -> None:
    """And the machine's setting counts for apps that do not say themselves."""
    other = users.serve(write("freeze-b", scaledown=1))
    with settings('[apps]\nfreeze = "auto"\nstop_after = 4'):
        for each in (url, other):
            assert curl(each)[0] == 200
        until_frozen("freeze-b")
        until_it_is("sleeping", APP)
        until_it_is("sleeping", "freeze-b")
        assert not (APPS / unit("freeze-b")).exists()
        assert curl(other)[0] == 200
        until_frozen("freeze-b")
    assert curl(other)[0] == 200
    until_it_is("sleeping", "freeze-b")


def test_a_program_with_a_port_is_frozen_with_what_leads_to_it() -> None:
    """The proxy between is in the same control group."""
    file = Path("/home/alice", programs.write("freeze-port", programs.port_server()))
    text = file.read_text()
    assert "seconds=300" in text
    url = users.serve(give("freeze_port.py", text.replace("seconds=300", "seconds=1")), "--idle", "freeze")
    for _ in range(3):
        assert curl(url)[0] == 200
        before = pid("freeze-port")
        until_frozen("freeze-port")
    assert (curl(url)[0], pid("freeze-port")) == (200, before)
