"""The daemon on the machine of ``world.py``: the only file of these tests that knows its parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, cast

from flyted.daemon.access.ingress_tokens import IngressTokens, wanted
from flyted.daemon.access.tokens import Tokens as Access
from flyted.daemon.api.verbs import Verb
from flyted.daemon.apps.bundles import Bundles
from flyted.daemon.apps.callers import Callers
from flyted.daemon.apps.deploy import Deploy
from flyted.daemon.apps.locks import DeployLocks
from flyted.daemon.apps.verbs import Apps
from flyted.daemon.config import Config
from flyted.daemon.effects import Effects
from flyted.daemon.execute import Execute
from flyted.daemon.explain import Explain
from flyted.daemon.gpus.inventory import GpuInventory
from flyted.daemon.gpus.leases import GpuLeases
from flyted.daemon.gpus.table import LeaseStore
from flyted.daemon.images.building import BuildVerbs
from flyted.daemon.images.images import Images
from flyted.daemon.images.listing import ImageVerbs
from flyted.daemon.images.prune import PruneVerbs
from flyted.daemon.images.rebuild import RebuildVerbs
from flyted.daemon.images.unused import UnusedImages
from flyted.daemon.ingress.acme import Acme
from flyted.daemon.ingress.issued import IssuedCertificates
from flyted.daemon.ingress.ordered import OrderedCertificates
from flyted.daemon.ingress.records import Records
from flyted.daemon.ingress.tls import Tls
from flyted.daemon.listeners import Pass
from flyted.daemon.look import Look
from flyted.daemon.loop import Loop
from flyted.daemon.models import ModelVerbs
from flyted.daemon.secrets.handover import Handover
from flyted.daemon.upkeep import Upkeep
from flyted.daemon.volumes import VolumeVerbs
from flyted.host.gpu_records import GpuRecords
from flyted.host.issued import IssuedTable
from flyted.host.models import Models
from flyted.host.orders import OrderTable
from flyted.host.sites import Sites
from flyted.host.tokens import Tokens
from flyted.host.volumes import Volumes
from flyted.plan.images.build_unit import BuildSettings
from flyted.plan.ingress.state import Listen
from flyted.plan.layout import Layout
from tests.daemon.clocks import FakeClock
from tests.daemon.stand_ins import FakeWatch, quick_store
from tests.daemon.world import World
from tests.daemon.world_haproxy import Ingress
from tests.daemon.world_host import GpuHelper, Journal, Systemd
from tests.daemon.world_ingress import WorldIngress
from tests.host.vaults import opened
from tests.values import DOMAIN

GPU_WAIT_S = 30


class Daemon:
    """One process of flyted, wired as in ``daemon/__main__.py``."""

    def __init__(self, world: World, haproxy: WorldIngress, start_s: int = 60) -> None:
        folder, nothing = world.folder, cast("Any", None)
        self.store = store = quick_store(folder / "flyted.db")
        store.fail_pending("flyted was stopped during this deploy", time.time())
        self.tokens = tokens = Tokens(store.database)
        self.vault = opened(folder / "flyted")
        self.clock = clock = FakeClock(time.time)
        self.systemd, self.gpu = Systemd(world), GpuHelper(world)
        self.ingress = Ingress(world, haproxy, lambda: wanted(tokens, clock))
        self.machine = machine = Effects(self.systemd, self.ingress, Journal(world), self.gpu, clock)
        config = Config(DOMAIN, Listen(), (), start_s, GPU_WAIT_S, layout=Layout(run=str(folder)))
        refused: dict[str, str] = {}
        look, explain = (
            Look(machine, store, config, world.capacity, lambda: None),
            Explain(machine.journal, store, 60, refused),
        )
        poked = asyncio.Event()
        self.table = LeaseStore(GpuRecords(store.database))
        inventory = GpuInventory(machine.gpus, self.table, poked.set)
        need_any = inventory.need_any
        bundles = Bundles(folder / "bundles", store.apps)
        self.images = images = Images(
            machine.units, folder / "images", BuildSettings(), nothing, need_any, poked.set, bundles
        )  # fmt: skip
        self.unused = UnusedImages(machine.units, images, store.apps, folder / "unused-images.json", poked.set)
        self.watch = FakeWatch()
        ingress_tokens = IngressTokens(tokens, store, self.ingress, lambda: haproxy.up, clock, self.watch, poked.set)
        sites = Sites(store.database)
        issued = IssuedCertificates(IssuedTable(store.database), clock)
        kept = OrderedCertificates(self.vault, sites, OrderTable(store.database), issued, store.apps, clock)
        acme = Acme(self.systemd, self.vault, sites, kept, clock, {})
        tls = Tls(self.vault, self.ingress, DOMAIN, folder / "ca.pem", clock, sites.all, kept)
        self.execute = execute = Execute(
            machine, store, config, explain, inventory, images, self.unused, ingress_tokens, tls, acme,
            Callers(config.layout.calls),
        )  # fmt: skip
        self.leases = GpuLeases(machine, inventory, self.table, execute, poked.set, GPU_WAIT_S)
        upkeep = Upkeep(images, self.unused, ingress_tokens, tls, acme, clock, execute, poked.set)
        self.loop = loop = Loop(look, execute, explain, self.leases, upkeep, DOMAIN, poked)
        deploy = Deploy(
            loop, look, execute, explain, config, store, nothing, images, bundles,
            inventory, ModelVerbs(Models(store.database)), VolumeVerbs(Volumes(store.database), store),
            DeployLocks(), Records(self.systemd, sites.all),
        )  # fmt: skip
        self.rebuilding = RebuildVerbs(images, deploy, self.unused.soon)
        self.access = Access(tokens, store, ingress_tokens)
        self.apps = Apps(store, loop, look, execute, explain, config, deploy, self.unused, ingress_tokens)
        self.handover = Handover(store, nothing, tls, self.leases, images.granted, acme.jobs, refused)
        self.tasks: set[asyncio.Task[Any]] = set()

    def begin(self) -> None:
        """Do what a start does, and run the parts."""
        self.systemd.world.heard = self.loop.unit_changed
        self.loop.listeners.add(self._decided)
        self.ingress.haproxy.tell_load = self.loop.more_load
        self.leases.resume()
        self.execute.sweep_starts()
        self.unused.resume()
        self.task(self.loop.find_outdated())
        self.task(self.loop.run())
        self.task(self.loop.settle_at_start())
        self.systemd.world.answers(self.credential)

    def _decided(self, done: Pass) -> None:
        """A pass has decided, and nothing is done yet."""
        for action in done.plan.actions:
            self.systemd.world.at(type(action).__name__, getattr(action, "replica", None))

    def task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something that ends with the process."""
        found = asyncio.get_running_loop().create_task(work)
        self.tasks.add(found)
        found.add_done_callback(self.tasks.discard)
        return found

    def image_verbs(self) -> dict[str, Verb]:
        """The rows of the verbs about images."""
        listing = ImageVerbs(self.images, self.store.apps)
        made = BuildVerbs(self.images, self.unused).verbs()
        return {**made, **listing.verbs(), **PruneVerbs(self.unused).verbs(), **self.rebuilding.verbs()}

    async def credential(self, unit: str, name: str) -> bytes:
        """What systemd reads from the credential socket: nothing when it is refused, or the daemon ends."""

        async def answer() -> bytes:
            found = self.handover.answer(unit, name)
            return found if isinstance(found, bytes) else await found

        task = self.task(answer())
        await asyncio.wait([task])
        return b"" if task.cancelled() or task.exception() else task.result()

    async def end(self, *, killed: bool) -> None:
        """End the process: by SIGTERM, after which its tasks clear up, or by SIGKILL."""
        self.systemd.world.heard = lambda _unit: None
        self.systemd.world.answers(None)
        self.systemd.leave()
        if killed:
            self.systemd.dead = self.ingress.dead = True
            self.store.close()
        others = {*self.systemd.world.own, asyncio.current_task()}
        mine = [task for task in asyncio.all_tasks() if task not in others]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)
        if not killed:
            self.systemd.dead = self.ingress.dead = True
            self.store.close()
        self.clock.close()
        self.vault.close()
