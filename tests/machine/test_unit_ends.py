"""How pairs of units under the real PID 1 wake, crash, are refused, replaced and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from flyted.contract.errors import HostFailure
from flyted.plan.facts import UnitEnd
from flyted.plan.units import STARTS
from tests.machine.kit.units import connected, do, planned, run, serving, sh, show, spec

pytestmark = pytest.mark.usefixtures("stub_app")


def test_the_socket_wakes_a_sleeping_app() -> None:
    """Stopped service, listening socket: a request starts it; sleeping more often than the start limit is no crash."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("nap"), start=False) as replica:
            for _ in range(STARTS + 3):
                pid = await do(replica, "os.getpid()")
                assert await units.stop(replica.service) == "done"
                assert f"/proc/{pid}" != await do(replica, "0")
                await units.stop(replica.service)
            found = {fact.name: fact.active for fact in units.list([f"flyted-app-{replica.app_id}-*"])}
            assert found == {replica.socket: "active", replica.service: "inactive"}

    run(work())


def test_a_crash_loop_ends_with_the_socket_closed() -> None:
    """An app that dies at every start is not started for ever: callers are refused at once, and the reason is kept."""

    async def work() -> None:
        async with connected() as units:
            replica, pair = planned(spec("loop", command=("crash",)))
            await units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
            changes: asyncio.Queue[str] = asyncio.Queue()
            units.subscribe(changes.put_nowait)
            try:
                assert await units.start(replica.service) == "failed"
                assert units.ended(replica.service) == UnitEnd("exit-code", 3)
                _, writer = await asyncio.open_unix_connection(f"/run/flyted/apps/{replica.server}.sock")
                while any(f.name == replica.socket and f.active == "active" for f in units.list()):
                    await changes.get()
                writer.close()
                with pytest.raises(OSError):
                    await asyncio.open_unix_connection(f"/run/flyted/apps/{replica.server}.sock")
            finally:
                await units.stop(replica.socket)
                await units.stop(replica.service)
            # and the names are free again
            async with serving(units, spec("loop")) as again:
                assert again == replica

    run(work())


def test_a_refusal_of_launch_is_not_repeated() -> None:
    """Exit 78: trying again changes nothing, so even an app with a minimum stays down."""

    async def work() -> None:
        async with connected() as units:
            replica, pair = planned(spec("never", command=("refuse",), min_replicas=1))
            await units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
            try:
                assert await units.start(replica.service) == "failed"
                assert units.ended(replica.service) == UnitEnd("exit-code", 78)
                assert [f.sub for f in units.list([replica.service])] == ["failed"]
            finally:
                await units.stop(replica.socket)
                await units.stop(replica.service)

    run(work())


def test_an_app_with_a_minimum_comes_back_after_a_crash() -> None:
    """By systemd, without the daemon and without a request."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("back", min_replicas=1)) as replica:
            changes: asyncio.Queue[str] = asyncio.Queue()
            units.subscribe(changes.put_nowait)
            pid = await do(replica, "os.getpid()")
            os.kill(int(pid), signal.SIGKILL)
            while sh("systemctl", "show", "-P", "MainPID", replica.service) in (pid, "0"):
                await changes.get()
            assert await do(replica, "os.getpid()") != pid

    run(work())


def test_a_pair_of_the_same_name_replaces_what_is_left() -> None:
    """Leftovers that failed or run without their socket do not block the name."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("again")) as replica:
            pair = planned(spec("again"))[1]
            assert await units.stop(replica.socket) == "done"
            assert await units.start_pair(replica.socket, pair.socket, replica.service, pair.service) == "done"
            assert await do(replica, "1 + 1") == "2"
            assert await units.start_pair(replica.socket, pair.socket, replica.service, pair.service) == "done"
            assert await do(replica, "1 + 1") == "2"

    run(work())


def test_a_pair_that_replaces_one_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restarted flyted finds a service that drains without its socket; systemd collects it only afterwards."""
    monkeypatch.setattr("flyted.host.units.COLLECT_S", 0.5)
    late = "__import__('threading').Timer(2, os._exit, [0]).start()"

    async def work() -> None:
        async with connected() as units, serving(units, spec("late")) as replica:
            pair = planned(spec("late"))[1]
            await do(replica, f"__import__('signal').signal(15, lambda *_: {late})")
            assert await units.stop(replica.socket) == "done"
            assert await units.start_pair(replica.socket, pair.socket, replica.service, pair.service) == "done"
            assert await do(replica, "1 + 1") == "2"

    run(work())


def test_a_frozen_app_can_be_stopped() -> None:
    """systemd refuses to stop a frozen unit; it is thawed first."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("cold")) as replica:
            said = sh("systemctl", "freeze", replica.service)
            if "support" in said:
                pytest.skip(said)  # cgroup v1
            assert show(replica.service)["FreezerState"] == "frozen"
            assert await units.stop(replica.service) == "done"
            assert await do(replica, "1 + 1") == "2"

    run(work())


def test_a_unit_that_is_not_there_is_stopped_already() -> None:
    """Stopping it is no error, starting it is, in systemd's words."""

    async def work() -> None:
        async with connected() as units:
            assert await units.stop("flyted-app-nowhere-r1-0.service") == "done"
            with pytest.raises(HostFailure, match="not found"):
                await units.start("flyted-app-nowhere-r1-0.service")
            assert units.ended("flyted-app-nowhere-r1-0.service") is None

    run(work())


def test_a_question_that_is_not_answered_says_nothing_of_a_unit() -> None:
    """The connection breaks in the middle: a unit that runs has neither ended nor gone, so no work on it is done."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("cut")) as replica:
            for question in (units.rests, units.ended, units.status):
                with socket.socket(fileno=os.dup(units._bus._fd)) as connection:
                    connection.shutdown(socket.SHUT_RDWR)
                with pytest.raises(HostFailure):
                    question(replica.service)
                await asyncio.sleep(0.3)  # it connects again
                assert not units.rests(replica.service)
            assert units.rests("flyted-app-none-r1-0.service")
            assert units.ended("flyted-app-none-r1-0.service") is None
            assert units.status(replica.socket) == ""

    run(work())
