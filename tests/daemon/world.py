"""What is around the daemon, in memory: systemd's jobs, programs of apps, HAProxy and its requests, GPUs."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flyted.build import words
from flyted.contract.errors import HostFailure
from flyted.contract.names import Replica
from flyted.plan.facts import Capacity, UnitEnd
from flyted.plan.ingress.ports import INGRESS_UNIT, listeners
from flyted.plan.ingress.state import Listen
from flyted.plan.unit_index import UnitFact
from tests.daemon.world_layers import Layers
from tests.daemon.world_pairs import Pair
from tests.daemon.world_steps import Steps
from tests.daemon.world_units import WorldUnits


class World(WorldUnits):
    """The machine. ``bus``: whether systemd can be asked; ``haproxy_s``, ``build_s``, ``removal_s``: their seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        super().__init__(loop, folder)
        self.images = folder / "images"
        self.layers = Layers(folder)
        self.steps = Steps(self.own, self.tell)
        self.ingress_unit = "active"
        self.working: dict[Replica, list[str]] = {}
        self.sleeps: Callable[[Pair], None] = lambda _pair: None
        self.restart_ingress: Callable[[], None] = lambda: None
        self.begin_ingress: Callable[[], None] = lambda: None
        self.stop_ingress: Callable[[str], None] = lambda _unit: None
        self.listening = listeners(Listen())
        self.built: list[str] = []
        self.bus, self.haproxy_s, self.build_s, self.removal_s = True, 0.01, 5.0, 0.0
        self.memory_bytes = 1 << 40
        self._awaited: tuple[str, asyncio.Future[Replica | None]] | None = None
        self._jobs: set[asyncio.Future[Any]] = set()

    def pace(self, job_s: float = 0.01, haproxy_s: float = 0.01, start_s: float = 0.5, gpus_s: float = 0.02) -> None:
        """Say how long systemd, HAProxy, the start of an app and a look at the GPUs take from now on."""
        self.job_s, self.haproxy_s, self.start_s, self.gpus.answer_s = job_s, haproxy_s, start_s, gpus_s

    def at(self, moment: str, replica: Replica | None = None) -> None:
        """The daemon has come to a moment that a test may wait for."""
        if self._awaited is not None and self._awaited[0] == moment and not self._awaited[1].done():
            self._awaited[1].set_result(replica)

    async def until(self, moment: str, limit_s: float) -> Replica | None:
        """Wait until the daemon comes to a moment, but not for ever; return whom it is about."""
        self._awaited = moment, self.loop.create_future()
        await asyncio.wait([self._awaited[1]], timeout=limit_s)
        return self._awaited[1].result() if self._awaited[1].done() else None

    def units(self, patterns: tuple[str, ...]) -> list[UnitFact]:
        """The units that systemd knows."""
        known = {INGRESS_UNIT: self.ingress_unit}
        known |= dict.fromkeys(self.steps.names, "active")
        for replica, pair in self.pairs.items():
            known |= {replica.service: pair.service, **({replica.socket: pair.socket} if pair.socket else {})}
        found = {name: active for name, active in known.items() if any(fnmatch.fnmatchcase(name, p) for p in patterns)}
        return [UnitFact(name, "loaded", active, "") for name, active in found.items()]

    def capacity(self) -> Capacity:
        """Its memory and processors."""
        return Capacity(self.memory_bytes, 2)

    def job(self) -> asyncio.Future[str]:
        """A job of systemd's that takes its time."""
        job: asyncio.Future[str] = self.loop.create_future()
        self.loop.call_later(self.job_s, self._resolve, [job], "done")
        return job

    async def answered(self, job: asyncio.Future[str]) -> str:
        """Wait for a job; with the connection to systemd the answer is lost, and the job goes on."""
        self._jobs.add(job)
        try:
            return await job
        finally:
            self._jobs.discard(job)

    def connect(self, *, bus: bool) -> None:
        """The connection to systemd is lost, or there again: changes were missed then."""
        self.bus = bus
        for job in [] if bus else list(self._jobs):
            if not job.done():
                job.set_exception(HostFailure("the connection to systemd was lost"))
        if bus:
            self.tell("")

    @contextlib.contextmanager
    def alone(self, replica: Replica, what: str) -> Iterator[None]:
        """Work of the daemon on a pair: nothing else of it may go on there, except that two starts are one."""
        others = [each for each in self.working.get(replica, ()) if (each, what) != ("start", "start")]
        if others:
            self.fault(f"{what} of {replica.server} during {', '.join(others)}")
        self.working.setdefault(replica, []).append(what)
        try:
            yield
        finally:
            self.working[replica].remove(what)

    async def step(self, name: str, wanted: Mapping[str, Any]) -> UnitEnd:
        """Do what a unit of a build does, or one that removes something."""
        images = self.images
        if name == "flyted-build-removal.service":
            await asyncio.sleep(self.removal_s)
            for image in images.iterdir():
                if image.name in str(wanted):
                    shutil.rmtree(image)
                    if f"flyted-build-{image.name}.service" in self.steps.names:
                        self.fault(f"image {image.name} is removed while it is built")
            return UnitEnd("success", 0)
        if name.startswith(("flyted-layer-", "flyted-pull-")):
            return await self.layers.run(name, wanted)
        if not name.startswith("flyted-build-"):
            return UnitEnd("success", 0)
        digest = name.removeprefix("flyted-build-").removesuffix(".service")
        if words.REMOVE in str(wanted):
            shutil.rmtree(images / digest)
            return UnitEnd("success", 0)
        self.built.append(name)
        (images / digest).mkdir(exist_ok=True)
        await asyncio.sleep(self.build_s)
        if "broken-package" in str(wanted):
            shutil.rmtree(images / digest)
            return UnitEnd("exit-code", 1)
        if "source-package" in str(wanted) and words.ISOLATED not in str(wanted):
            return UnitEnd("exit-code", words.EX_ISOLATED)
        record = {
            "hash": digest, "python_asked": "3.12", "python": "3.12.1", "note": "", "packages": 3, "built_at": 1.0,
            "built": [],
        }  # fmt: skip
        (images / digest / "image.json").write_text(json.dumps(record))
        return UnitEnd("success", 0)
