"""A machine in memory: the daemon's real loop, actions and store run on it.

systemd and HAProxy are stood in for by what the loop sees of them; the real ones judge in the machine tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.errors import HostFailure
from flyted.contract.names import Replica
from flyted.contract.texts import MAX_TEXT
from flyted.daemon.access.ingress_tokens import IngressTokens
from flyted.daemon.apps.bundles import Bundles
from flyted.daemon.apps.callers import Callers
from flyted.daemon.config import Config
from flyted.daemon.effects import Effects
from flyted.daemon.execute import Execute
from flyted.daemon.explain import Explain
from flyted.daemon.gpus.inventory import GpuInventory
from flyted.daemon.gpus.leases import GpuLeases
from flyted.daemon.gpus.table import LeaseStore
from flyted.daemon.images.images import Images
from flyted.daemon.images.unused import UnusedImages
from flyted.daemon.ingress.acme import Acme
from flyted.daemon.ingress.domains import Domains
from flyted.daemon.ingress.issued import IssuedCertificates
from flyted.daemon.ingress.ordered import OrderedCertificates
from flyted.daemon.ingress.tls import Tls
from flyted.daemon.look import Look
from flyted.daemon.loop import Loop
from flyted.daemon.upkeep import Upkeep
from flyted.host import network
from flyted.host.gpu_records import GpuRecords
from flyted.host.ingress import Applied
from flyted.host.issued import IssuedTable
from flyted.host.journal import Entry
from flyted.host.orders import OrderTable
from flyted.host.sites import Sites
from flyted.host.tokens import Tokens
from flyted.plan.facts import Capacity, ImageFact
from flyted.plan.gpus.facts import Inventory
from flyted.plan.idle import Traffic
from flyted.plan.images.build_unit import BuildSettings
from flyted.plan.ingress import kept
from flyted.plan.ingress.config import structure
from flyted.plan.ingress.state import IngressState, Listen
from flyted.plan.layout import Layout
from flyted.plan.start import LIMIT
from tests.daemon.clocks import BEGAN, FakeClock
from tests.daemon.event_loop import run
from tests.daemon.fake_systemd import Systemd
from tests.daemon.stand_ins import FakeWatch, quick_store
from tests.host.vaults import opened, state_folder
from tests.values import DOMAIN, spec

HUGE = tuple((f"X{number}", "x" * MAX_TEXT) for number in range(LIMIT // MAX_TEXT + 1))
"""More variables than an app's units can be made with."""


class HAProxy:
    """What the daemon's ``host.ingress.Ingress`` shows of the ingress.

    ``took_s`` is for each :meth:`apply`, ``stats_s`` for each :meth:`stats`.
    """

    def __init__(self) -> None:
        self.traffic: dict[str, Traffic] = {}
        self.state: IngressState | None = None
        self.files = self.rules_of = Listen()
        self.refuses = False
        """Whether it takes no certificate of another domain."""
        self.took_s = 0.0
        self.stats_s = 0.0
        self.asked: Counter[str] = Counter()
        self.cooled: list[str] = []
        self.counted: list[list[str]] = []
        """The servers of each question for counters."""

    def write(self, state: IngressState, listen: Listen) -> None:
        """As host.ingress."""
        self.state, self.files = state, listen

    def start(self) -> None:
        """It starts anew, with the files as they are."""
        self.rules_of = self.files

    def forget(self) -> None:
        """As host.ingress."""
        self.asked["forget"] += 1

    async def apply_tokens(self) -> None:
        """As host.ingress."""
        self.asked["apply_tokens"] += 1

    def write_tokens(self) -> dict[str, str]:
        """As host.ingress."""
        return {}

    async def token_uses(self) -> dict[str, float]:
        """As host.ingress."""
        self.asked["token_uses"] += 1
        return {}

    async def set_certificate(self, _pem: bytes) -> None:
        """As host.ingress."""
        self.asked["set_certificate"] += 1

    async def apply_certificates(self) -> None:
        """As host.ingress."""
        self.asked["apply_certificates"] += 1
        if self.refuses:
            raise HostFailure("HAProxy refused the new certificate")

    async def rules(self) -> str:
        """As host.ingress."""
        return structure(self.rules_of)

    async def end_kept(self, server: str) -> None:
        """As host.ingress."""
        self.asked["end_kept"] += 1
        self.cooled.append(server)

    async def apply(self, state: IngressState, listen: Listen, touched: Collection[str] = ()) -> Applied:
        """As host.ingress."""
        self.asked["apply"] += 1
        self.files = listen
        await asyncio.sleep(self.took_s)
        self.state = kept.without(state, touched)
        return Applied()

    async def answers_calls(self) -> bool:
        """As host.ingress."""
        return True

    async def stats(self, servers: Collection[str]) -> dict[str, Traffic]:
        """As host.ingress."""
        self.asked["stats"] += 1
        self.counted.append(sorted(servers))
        await asyncio.sleep(self.stats_s)
        return {name: traffic for name, traffic in self.traffic.items() if name in servers}


class Gpus:
    """What the daemon's ``host.gpu.Gpu`` shows of GPUs; ``took_s`` is for each look at them."""

    def __init__(self) -> None:
        self.now: Callable[[], Inventory] = lambda: Inventory(reason="no driver")
        self.took_s = 0.0
        self.asked = 0
        self.links: dict[str, str] = {}
        self.on_xid: Callable[[str, int], None] | None = None
        """What hears of errors; ``None`` while nobody listens."""

    async def inventory(self) -> Inventory:
        """As host.gpu."""
        self.asked += 1
        await asyncio.sleep(self.took_s)
        return self.now()

    async def watch(self, on_xid: Callable[[str, int], None]) -> None:
        """As host.gpu."""
        self.on_xid = on_xid
        try:
            await asyncio.Event().wait()
        finally:
            self.on_xid = None

    def show(self, links: Mapping[str, str]) -> None:
        """As host.gpu."""
        self.links = dict(links)


class Journal:
    """What the daemon's ``host.journal`` shows of the journal, which is empty; ``took_s`` is for each :meth:`read`."""

    def __init__(self) -> None:
        self.took_s = 0.0
        self.error: HostFailure | None = None
        self.asked: list[str] = []

    async def sync(self) -> None:
        """As host.journal."""
        self.asked.append("sync")

    async def read(self, _units: Sequence[str], /, **_options: Any) -> list[Entry]:
        """As host.journal."""
        self.asked.append("read")
        await asyncio.sleep(self.took_s)
        if self.error is not None:
            raise self.error
        return []

    async def follow(self, *_words: Any, **_options: Any) -> AsyncGenerator[Entry, None]:
        """As host.journal."""
        await asyncio.Event().wait()
        yield  # type: ignore[misc]


def _time() -> float:
    """The running loop's time, or that at which each begins."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 1000.0


class Machine:
    """The parts, wired as in ``daemon/__main__.py``."""

    def __init__(self, folder: Path) -> None:
        self.systemd, self.haproxy, self.store = Systemd(), HAProxy(), quick_store(folder / "flyted.db")
        self.journal, self.gpu, store = Journal(), Gpus(), self.store
        self.clock = clock = FakeClock(lambda: BEGAN + _time())
        effects = Effects(self.systemd, self.haproxy, self.journal, self.gpu, clock)
        self.sites = Sites(store.database)
        self.config = Config(DOMAIN, Listen(), (), 300, layout=Layout(run=str(folder)), sites=self.sites.all)
        self.look = Look(effects, store, self.config, lambda: Capacity(1 << 40, 2), lambda: 1 << 40)
        self.explain = Explain(self.journal, store, 300, {})
        poked = asyncio.Event()
        self.table = LeaseStore(GpuRecords(store.database))
        self.inventory = GpuInventory(self.gpu, self.table, poked.set)
        self.images = images = Images(
            self.systemd, folder / "images", BuildSettings(), lambda *_use: None, self.inventory.need_any, poked.set,
            Bundles(folder / "bundles", store.apps),
        )  # fmt: skip
        unused = UnusedImages(self.systemd, images, store.apps, folder / "unused-images.json", poked.set)
        table = Tokens(store.database)
        ingress_tokens = IngressTokens(table, store, self.haproxy, lambda: True, clock, FakeWatch(), poked.set)
        self.vault_folder = state_folder(folder)
        self.vault = opened(self.vault_folder)
        issued = IssuedCertificates(IssuedTable(store.database), clock)
        kept = OrderedCertificates(self.vault, self.sites, OrderTable(store.database), issued, store.apps, clock)
        self.acme = acme = Acme(self.systemd, self.vault, self.sites, kept, clock, {})
        self.tls = tls = Tls(self.vault, self.haproxy, DOMAIN, folder / "ca.pem", clock, self.sites.all, kept)
        self.execute = Execute(
            effects, store, self.config, self.explain, self.inventory, images, unused, ingress_tokens, tls, acme,
            Callers(self.config.layout.calls),
        )  # fmt: skip
        self.leases = GpuLeases(effects, self.inventory, self.table, self.execute, poked.set, 60)
        upkeep = Upkeep(images, unused, ingress_tokens, tls, acme, clock, self.execute, poked.set)
        self.loop = Loop(self.look, self.execute, self.explain, self.leases, upkeep, DOMAIN, poked)
        acme.settle = self.loop.settle
        self.config.challenges = acme.challenges
        self.systemd.began = self.haproxy.start
        self.domains = Domains(
            self.sites, self.vault, tls, acme, self.loop, self.config, self.config.listen.addresses, clock, store.apps
        )
        self.systemd.subscribe(self.loop.unit_changed)

    def close(self) -> None:
        """Closes its files."""
        self.store.close()
        self.vault.close()

    def deployed(self, name: str, image: ImageFact | None = None, **changes: Any) -> Replica:
        """An app that serves, as the store has it after a deploy."""
        number = self.store.add_revision(spec(name, **changes), image or ImageFact("/i"), "f", 1.0)
        self.store.serve(name, number, 1.0)
        return Replica(name, number)

    def runs(self, replica: Replica, *, idle_s: float = 10_000.0) -> None:
        """Both units are up, and no request has come for so long."""
        self.systemd.set(replica.socket, "active")
        self.systemd.set(replica.service, "active")
        self.haproxy.traffic[replica.server] = Traffic(0, 0, 1, 1, idle_s, 0.0, "p", 1e6)

    def active(self, unit: str) -> str:
        """systemd's word for the unit; "" where it is not there."""
        return self.systemd.units[unit].active if unit in self.systemd.units else ""


def alone(folder: Path, monkeypatch: pytest.MonkeyPatch, *apps: str) -> Machine:
    """A machine on which nobody else listens, with apps that serve."""
    monkeypatch.setattr(network, "tcp_sockets", lambda: ("", ""))
    monkeypatch.setattr(network, "addresses_ipv6", lambda: f"{1:032x} 01 80 10 80 lo")
    made = Machine(folder)
    for name in apps:
        made.deployed(name)
    return made


def beside(machine: Machine, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs the loop beside a story."""

    async def main() -> None:
        loop = asyncio.create_task(machine.loop.run())
        try:
            await story()
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop

    run(main())


async def until(true: Callable[[], bool], seconds: float = 1000.0) -> None:
    """Waits on the machine's clock."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  whatever it is that becomes true
            await asyncio.sleep(0.01)
