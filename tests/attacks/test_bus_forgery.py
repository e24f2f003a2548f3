"""The system bus is shared with everybody: forged signals, a lost connection, a systemd that re-executes itself."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

if not os.environ.get("FLYTED_IN_MACHINE"):
    pytest.skip("needs the booted machine: sudo tests/run", allow_module_level=True)

from flyted.contract.errors import HostFailure
from flyted.host.units import Units
from tests.machine.kit.units import connected, do, must, planned, run, serving, sh, spec, stub_app

MANAGER = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")


@pytest.fixture(scope="module", autouse=True)
def _hands() -> Iterator[None]:
    with stub_app():
        yield


def forge(target: str, *signal: str) -> None:
    """Sends a signal to one client, as a user without any right."""
    must("runuser", "-u", "nobody", "--", "busctl", "emit", f"--destination={target}", *signal)


def forgeries(units: Units) -> asyncio.Queue[bytes]:
    """From now on the senders of what arrives and is not systemd's, so that a test knows that its forgery did."""
    seen: asyncio.Queue[bytes] = asyncio.Queue()
    dispatch = units._bus._dispatch

    def noting(message: Any) -> None:
        sender = bytes(message.get_sender())
        if sender != units._bus._owner:
            seen.put_nowait(sender)
        dispatch(message)

    units._bus._dispatch = noting  # type: ignore[method-assign]
    return seen


def test_a_forged_end_of_a_job_is_not_believed() -> None:
    """mallory says that the start is done: we still wait for systemd's word."""

    async def work() -> None:
        async with connected() as units:
            replica, pair = planned(spec("quiet", command=("silent",)))
            await units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
            starting = asyncio.create_task(units.start(replica.service))
            try:
                await asyncio.sleep(0)
                (job,) = units._jobs._waiting
                seen = forgeries(units)
                name = units._bus._dbus.get_unique_name().decode()
                forge(name, *MANAGER, "JobRemoved", "uoss", job.rsplit("/", 1)[1], job, replica.service, "done")
                await seen.get()
                assert not starting.done()
            finally:
                await units.stop(replica.socket)
                await units.stop(replica.service)
            assert await starting == "canceled"

    run(work())


def test_a_forged_change_wakes_nobody() -> None:
    """Signals of others never reach the engine, however many: neither by path nor by name."""

    async def work() -> None:
        async with connected() as units:
            heard: list[str] = []
            units.subscribe(heard.append)
            seen, owner = forgeries(units), units._bus._owner
            name = units._bus._dbus.get_unique_name().decode()
            path = "/org/freedesktop/systemd1/unit/flyted_2dapp_2dx_2dr1_2d0_2eservice"
            forge(name, path, "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", "x", "0", "0")
            forge(name, *MANAGER, "UnitRemoved", "so", "flyted-app-x-r1-0.service", path)
            forge(
                name, "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", "sss", "x", ":1.1", ":1.2"
            )
            for _ in range(3):
                await seen.get()
            assert not [name for name in heard if "app-x" in name], "other units may really change meanwhile"
            assert units._bus._owner == owner

    run(work())


def test_a_lost_connection_is_made_anew() -> None:
    """Whoever waits is told, the engine hears that it may have missed something, and work goes on."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("lost")) as replica:
            heard: asyncio.Queue[str] = asyncio.Queue()
            units.subscribe(heard.put_nowait)
            silent, pair = planned(spec("lost2", command=("silent",)))
            await units.start_pair(silent.socket, pair.socket, silent.service, pair.service)
            starting = asyncio.create_task(units.start(silent.service))
            await asyncio.sleep(0)
            with socket.socket(fileno=os.dup(units._bus._fd)) as same:
                same.shutdown(socket.SHUT_RDWR)
            with pytest.raises(HostFailure, match="connection to systemd was lost"):
                await starting
            while await heard.get() != "":
                pass
            for name in (silent.socket, silent.service):
                await units.stop(name)
            assert await units.stop(replica.service) == "done"
            assert await do(replica, "1 + 1") == "2"

    run(work())


def test_systemd_may_execute_itself_anew() -> None:
    """An upgrade of systemd: it comes back under another name on the bus, and is believed again."""

    async def work() -> None:
        async with connected() as units, serving(units, spec("anew")) as replica:
            heard: asyncio.Queue[str] = asyncio.Queue()
            units.subscribe(heard.put_nowait)
            before = units._bus._owner
            must("systemctl", "daemon-reexec")
            while await heard.get() != "" or units._bus._owner == before:
                pass
            assert await do(replica, "1 + 1") == "2"
            assert await units.stop(replica.service) == "done"
            assert await units.start(replica.service) == "done"
            assert sh("systemctl", "is-active", replica.service) == "active"

    run(work())
