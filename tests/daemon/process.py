"""The daemon's whole process in memory: its parts as its own main module puts them together, over its real sockets."""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import signal
import socket
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyted.contract import client
from flyted.contract.app import to_dict
from flyted.daemon import doctor as doctor_module
from flyted.daemon.config import Config
from flyted.daemon.settings import Settings
from flyted.host import people
from flyted.plan.ingress.ports import INGRESS_UNIT
from flyted.plan.layout import Layout
from tests.daemon.stand_ins import quick_store
from tests.daemon.world import World
from tests.daemon.world_host import GpuHelper, Journal, Systemd
from tests.daemon.world_ingress import WorldIngress
from tests.host.vaults import OPERATOR, opened, state_folder
from tests.values import spec

with pytest.MonkeyPatch.context() as patched:  # the real one needs pystemd, which only the machine has
    patched.setitem(sys.modules, "flyted.host.units", types.ModuleType("flyted.host.units"))
    sys.modules["flyted.host.units"].Units = object  # type: ignore[attr-defined]
    main_module = importlib.import_module("flyted.daemon.__main__")


TAKES_BUNDLES = ("app.serve", "image.build")


class Units(Systemd):
    """As ``host.units.Units``: the machine's, which is there when the daemon is."""

    def __init__(self, folder: Path) -> None:
        super().__init__(World(asyncio.get_running_loop(), folder))
        WorldIngress(self.world)
        self.world.job_s, self.world.start_s, self.world.ingress_unit = 0.001, 0.01, "inactive"

    def open(self) -> None:
        """As host.units."""

    def subscribe(self, heard: Callable[[str], None]) -> None:
        """As host.units."""
        self.world.heard = heard


class Process:
    """A folder for everything that the daemon has on a machine, and its sockets as systemd would pass them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.state = state_folder(folder)
        for name in ("images", "bundles"):
            (self.state / name).mkdir()
        (folder / "ingress").mkdir()
        (folder / "env/bin").mkdir(parents=True)
        (folder / "env/bin/python").touch()
        self.units: Units | None = None
        patch.setattr(main_module, "RUN", folder)
        patch.setattr(main_module, "CA_FILE", folder / "ca.pem")
        patch.setattr(main_module, "STATE", self.state)
        patch.setattr(doctor_module, "STATE", self.state)
        patch.setattr(main_module, "Units", self._units)
        patch.setattr(main_module, "Gpu", lambda: GpuHelper(self.world))
        patch.setattr(main_module, "Config", functools.partial(Config, layout=Layout(run=str(folder))))
        patch.setattr(people, "may_operate", lambda _uid, _name: True)
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(folder / "notify"))
        self.notified.settimeout(5)
        patch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        self.listeners = {name: self._listener(name) for name in ("control", "api", "credentials")}

    @property
    def world(self) -> World:
        """The machine that the daemon found."""
        assert self.units is not None
        return self.units.world

    def _units(self, *_limits: float, kept: tuple[str, ...]) -> Units:
        assert kept == ("flyted-app-*", "flyted-freeze@*", INGRESS_UNIT)
        self.units = Units(self.folder)
        self.world.images = self.state / "images"
        self.patch.setattr(main_module, "journal", Journal(self.world))
        return self.units

    def _listener(self, name: str) -> socket.socket:
        found = socket.socket(socket.AF_UNIX)
        found.bind(str(self.folder / f"{name}.sock"))
        found.listen()
        found.setblocking(False)
        return found

    def ask(self, verb: str, **args: Any) -> dict[str, Any]:
        """A verb on the control socket."""
        bulk, bundles = args.pop("bulk", None), args.pop("bundles", {} if verb in TAKES_BUNDLES else None)
        return client.call(verb, args, bulk=bulk, bundles=bundles, path=self.folder / "control.sock")

    def credential(self, unit: str, name: str) -> bytes:
        """What systemd reads for a unit."""
        with socket.socket(socket.AF_UNIX) as conn:
            conn.bind(f"\0{os.getpid():x}/unit/{unit}/{name}")
            conn.settimeout(5)
            conn.connect(str(self.folder / "credentials.sock"))
            return b"".join(iter(lambda: conn.recv(4096), b""))

    def beside(self, story: Callable[[], None], settings: Settings | None = None) -> None:
        """Run the daemon, and a story in a thread; then send SIGTERM."""

        async def both() -> None:
            vault, store = opened(self.state, OPERATOR), quick_store(self.state / "flyted.db")
            task = asyncio.create_task(main_module.daemon(self.listeners, settings or Settings(), vault, store))
            try:
                await asyncio.to_thread(story)
            finally:
                if not task.done():
                    os.kill(os.getpid(), signal.SIGTERM)
                await task
                vault.close()
                store.close()

        asyncio.run(both())

    def close(self) -> None:
        """Close the sockets."""
        for each in (*self.listeners.values(), self.notified):
            each.close()


def serve(process: Process, name: str = "web", **changes: Any) -> dict[str, Any]:
    """Serve an app; return its map."""
    made = spec(name, **{"python_env": str(process.folder / "env"), **changes})
    return dict(process.ask("app.serve", spec=to_dict(made))["app"])
