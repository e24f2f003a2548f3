"""Real pairs of units for tests: made by the planner and the renderer, run by systemd, with `stub_app` as the app."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

from flyted.contract.app import AppSpec
from flyted.contract.names import Replica
from flyted.host import starts
from flyted.host.units import Units
from flyted.plan.app_folders import erase_unit
from flyted.plan.layout import Layout
from flyted.plan.units import UnitPair, app_units
from tests import values

HOME = Path("/srv/flyted-test")
LAYOUT = Layout(launch=str(HOME / "stub_app.py"), ingress_group="root")
PYTHON = "/usr/bin/python3"
TIMEOUT_S = 180


def place_stub_app() -> None:
    """Where an app's user can read it: the checkout may be hidden from it."""
    (HOME / "image").mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("stub_app.py"), HOME)
    for path in (HOME, HOME / "image", HOME / "stub_app.py"):
        path.chmod(0o755)
    Path(LAYOUT.apps).mkdir(parents=True, exist_ok=True)
    Path(LAYOUT.state).mkdir(parents=True, exist_ok=True)


def main_pid(unit: str) -> int:
    """Return the main process of a unit, 0 if there is none."""
    return int(sh("systemctl", "show", "--value", "--property=MainPID", unit))


def spec(name: str, **changes: Any) -> AppSpec:
    """Return an app for `stub_app`."""
    return values.spec(name, **{"command": ("serve",), **changes})


def planned(made: AppSpec, revision: int = 1) -> tuple[Replica, UnitPair]:
    """The replica and its units, as the daemon would make them; what it is told lies where PID 1 reads it."""
    replica = Replica(made.key.id, revision)
    pair = app_units(made, replica, image_path=str(HOME / "image"), python=PYTHON, layout=LAYOUT)
    starts.write(Path(LAYOUT.start_file(replica)), pair.start)
    return replica, pair


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[Units]:
    """Units on a connection of their own."""
    units = Units()
    units.open()
    try:
        yield units
    finally:
        units.close()


@contextlib.asynccontextmanager
async def serving(units: Units, made: AppSpec, revision: int = 1, *, start: bool = True) -> AsyncIterator[Replica]:
    """A pair whose socket listens and, with ``start``, whose service runs; gone afterwards, with its folders."""
    replica, pair = planned(made, revision)
    try:
        assert await units.start_pair(replica.socket, pair.socket, replica.service, pair.service) == "done"
        if start:
            assert await units.start(replica.service) == "done", sh("journalctl", "-n30", "-u", replica.service)
        yield replica
    finally:
        await units.stop(replica.socket)
        await units.stop(replica.service)
        if revision == 1:
            erase = f"flyted-test-erase-{replica.app_id}.service"
            await units.run_transient(erase, erase_unit(replica.app_id), 30, clean=["state", "cache"])


def run(work: Awaitable[None]) -> None:
    """Runs a test's coroutine, bounded."""

    async def bounded() -> None:
        await asyncio.wait_for(work, TIMEOUT_S)

    asyncio.run(bounded())


async def do(replica: Replica, source: str) -> str:
    """What an expression is inside the app; ``repr`` of it, or of what it raised."""
    reader, writer = await asyncio.open_unix_connection(f"{LAYOUT.apps}/{replica.server}.sock")
    writer.write(source.encode() + b"\n")
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data.decode()


def sh(*argv: str) -> str:
    """A command's output, whatever its exit status."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def must(*argv: str) -> None:
    """Runs a command that has to succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def exists(path: str) -> bool:
    """Whether a path is there, a dangling link included."""
    return os.path.lexists(path)


@contextlib.contextmanager
def stub_app() -> Iterator[None]:
    """`stub_app` lies where apps find it, and flyted is stopped: it would stop pairs that nobody deployed."""
    place_stub_app()
    names = ("flyted.socket", "flyted-credentials.socket", "flyted.service")
    running = [name for name in names if sh("systemctl", "is-active", name) == "active"]
    if running:
        must("systemctl", "stop", *running)
    try:
        yield
    finally:
        if running:
            must("systemctl", "start", *running)


def show(unit: str, *ignore: str) -> dict[str, str]:
    """All properties of a unit as systemctl shows them, lists in one order."""
    lines = (line.partition("=") for line in sh("systemctl", "show", unit).split("\n"))
    return {name: " ".join(sorted(value.split())) for name, _, value in lines if not name.startswith(ignore)}


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """A TCP port of the host's loopback that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
