"""`flyted`: reads the settings, builds the parts, runs them. Nothing else is decided here."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from flyted.base import sd, tasks
from flyted.base.log import to_journal
from flyted.contract.answers.machine import Versions
from flyted.contract.app import MAX_START_S
from flyted.contract.errors import FlytedError, InvalidInput, StoreCorrupt
from flyted.contract.quantity import memory_bytes
from flyted.contract.status import CANNOT_START
from flyted.contract.version import PROTOCOL, VERSION
from flyted.daemon import settings as settings_file
from flyted.daemon.access.ingress_tokens import IngressTokens, wanted
from flyted.daemon.access.login import Logins
from flyted.daemon.access.tokens import Tokens
from flyted.daemon.api.control import Control
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.daemon.apps.bundles import Bundles
from flyted.daemon.apps.callers import Callers
from flyted.daemon.apps.data import AppData
from flyted.daemon.apps.data_verbs import DataVerbs
from flyted.daemon.apps.deploy import Deploy
from flyted.daemon.apps.disk_watch import DiskWatch
from flyted.daemon.apps.locks import DeployLocks
from flyted.daemon.apps.verbs import Apps
from flyted.daemon.config import Config
from flyted.daemon.doctor import Doctor
from flyted.daemon.effects import Effects
from flyted.daemon.execute import Execute
from flyted.daemon.explain import Explain
from flyted.daemon.gateway import Gateway
from flyted.daemon.gpus.inventory import GpuInventory
from flyted.daemon.gpus.leases import GpuLeases
from flyted.daemon.gpus.table import LeaseStore
from flyted.daemon.gpus.verbs import GpuVerbs
from flyted.daemon.images.building import BuildVerbs
from flyted.daemon.images.images import Images
from flyted.daemon.images.listing import ImageVerbs
from flyted.daemon.images.mirrors import Mirrors
from flyted.daemon.images.prune import PruneVerbs
from flyted.daemon.images.rebuild import RebuildVerbs
from flyted.daemon.images.roots import RootSettings
from flyted.daemon.images.unused import UnusedImages
from flyted.daemon.ingress.acme import Acme
from flyted.daemon.ingress.domains import Domains
from flyted.daemon.ingress.issued import IssuedCertificates
from flyted.daemon.ingress.listen import choose_ingress_ports, ensure_socket
from flyted.daemon.ingress.ordered import OrderedCertificates
from flyted.daemon.ingress.records import Records
from flyted.daemon.ingress.tls import Tls
from flyted.daemon.look import Look
from flyted.daemon.loop import Loop
from flyted.daemon.models import ModelVerbs
from flyted.daemon.secrets.credentials import Credentials
from flyted.daemon.secrets.handover import Handover
from flyted.daemon.secrets.verbs import Secrets
from flyted.daemon.settings import Settings
from flyted.daemon.state import EX_CONFIG, STATE, new_database, opened, refuse
from flyted.daemon.upkeep import Upkeep
from flyted.daemon.volumes import VolumeVerbs
from flyted.host import identity, journal, people, rotation, sockets
from flyted.host.clock import Clock
from flyted.host.gpu import Gpu
from flyted.host.gpu_records import GpuRecords
from flyted.host.ingress import Ingress
from flyted.host.issued import IssuedTable
from flyted.host.load import Load
from flyted.host.machine import architecture, is_free, kernel
from flyted.host.models import Models
from flyted.host.network import hosts, nameservers
from flyted.host.orders import OrderTable
from flyted.host.sites import Sites
from flyted.host.store import Store
from flyted.host.tokens import Tokens as TokenTable
from flyted.host.units import Units
from flyted.host.vault import Vault
from flyted.host.volumes import Volumes
from flyted.host.watch_files import FileWatch
from flyted.plan.data_folder import DATA
from flyted.plan.facts import Platform
from flyted.plan.images.build_secrets import machine_secrets
from flyted.plan.images.build_unit import BuildSettings
from flyted.plan.images.layer_unit import LayerSettings
from flyted.plan.images.pull_unit import PullSettings
from flyted.plan.ingress.pools import TOLD
from flyted.plan.ingress.ports import INGRESS_UNIT
from flyted.plan.overdue import KILL_S
from flyted.plan.units import STOP_S

log = logging.getLogger(__name__)

RUN = Path("/run/flyted")
CA_FILE = RUN / "ca.pem"
_STATUS_LIMIT = 500  # characters


async def version(_call: Call) -> Versions:
    """Return the versions of flyted and of its protocol."""
    return Versions(VERSION, PROTOCOL)


async def daemon(listeners: dict[str, socket.socket], settings: Settings, vault: Vault, store: Store) -> None:
    """Build all parts, make the machine what the store says, send ``READY=1``, and serve until SIGTERM."""
    longest_s = max(settings.start_timeout_s, MAX_START_S) + settings.gpu_wait_s + STOP_S
    units = Units(longest_s, KILL_S, kept=("flyted-app-*", "flyted-freeze@*", INGRESS_UNIT))
    units.open()
    table = TokenTable(store.database)
    clock = Clock()
    site_table = Sites(store.database)
    ingress = Ingress(RUN / "admin.sock", RUN / "ingress", tokens=partial(wanted, table, clock))
    listen = choose_ingress_ports(settings, units, RUN / "ingress", site_table.all())
    await ensure_socket(units, listen)
    acme = Acme(
        units, vault, site_table,
        OrderedCertificates(
            vault, site_table, OrderTable(store.database), IssuedCertificates(IssuedTable(store.database), clock),
            store.apps, clock,
        ),
        clock, settings.build_environment,
    )  # fmt: skip
    tls = Tls(vault, ingress, settings.base_domain, CA_FILE, clock, site_table.all, acme.kept)
    ingress.certificates = tls.certificates
    config = Config(
        settings.base_domain, listen, nameservers(), settings.start_timeout_s, settings.gpu_wait_s,
        Platform(architecture(), kernel(), is_free(DATA)), hosts=hosts(),
        sites=site_table.all, preferred=settings.url_domain, challenges=acme.challenges,
        freeze=settings.freeze_rules,
    )  # fmt: skip
    refused: dict[str, str] = {}
    machine = Effects(units, ingress, journal, Gpu(), clock)
    look = Look(machine, store, config)
    explain = Explain(journal, store, settings.start_timeout_s, refused)
    poked = asyncio.Event()
    gpu_table = LeaseStore(GpuRecords(store.database))
    inventory = GpuInventory(machine.gpus, gpu_table, poked.set)
    bundles = Bundles(STATE / "bundles", store.apps)
    images = Images(
        units, STATE / "images",
        BuildSettings(environment=settings.build_environment, secrets=machine_secrets(settings.build_secrets)),
        vault.resolve, inventory.need_any, poked.set, bundles,
        root_settings=_root_settings(settings), platform=config.platform,
    )  # fmt: skip
    unused = UnusedImages(units, images, store.apps, STATE / "unused-images.json", poked.set)
    watch = FileWatch(people.ETC, people.FILES)
    ingress_tokens = IngressTokens(table, store, ingress, lambda: _runs(units, INGRESS_UNIT), clock, watch, poked.set)
    execute = Execute(
        machine, store, config, explain, inventory, images, unused, ingress_tokens, tls, acme,
        Callers(config.layout.calls),
    )  # fmt: skip
    leases = GpuLeases(machine, inventory, gpu_table, execute, poked.set, settings.gpu_wait_s)
    upkeep = Upkeep(images, unused, ingress_tokens, tls, acme, clock, execute, poked.set)
    loop = Loop(look, execute, explain, leases, upkeep, settings.base_domain, poked)
    acme.settle = loop.settle
    gpu_verbs = GpuVerbs(inventory, loop.facts)
    models, volumes = ModelVerbs(Models(store.database)), VolumeVerbs(Volumes(store.database), store)
    deploy = Deploy(
        loop, look, execute, explain, config, store, vault, images, bundles, inventory, models, volumes,
        DeployLocks(), Records(units, site_table.all),
    )  # fmt: skip
    apps, tokens = (
        Apps(store, loop, look, execute, explain, config, deploy, unused, ingress_tokens),
        Tokens(table, store, ingress_tokens),
    )
    domains = Domains(site_table, vault, tls, acme, loop, config, settings.listen, clock, store.apps)
    verbs: dict[str, Verb] = {
        "version": Verb(Right.READ, {}, version, anonymous=True),
        **Secrets(vault, store, deploy).verbs(),
        **BuildVerbs(images, unused).verbs(),
        **ImageVerbs(images, store.apps).verbs(),
        **PruneVerbs(unused).verbs(),
        **RebuildVerbs(images, deploy, unused.soon).verbs(),
        **apps.verbs(),
        **_data_verbs(AppData(units, store, table), apps, loop, deploy, look, execute),
        **tls.verbs(),
        **domains.verbs(),
        **Gateway(lambda: config.https_port, CA_FILE).verbs(),
        **gpu_verbs.verbs(),
        **models.verbs(),
        **volumes.verbs(),
        **Doctor(vault, look, loop, config, gpu_verbs, Mirrors(units, images.root_settings), domains).verbs(),
        **tokens.verbs(),
        **Logins(tokens, store, settings.base_domain, lambda: config.https_port).verbs(),
    }
    handover = Handover(store, vault, tls, leases, images.granted, acme.jobs, refused)
    parts = [
        Credentials(listeners["credentials"], handover.answer).run,
        loop.run,
        Control(listeners["control"], verbs).run,
    ]
    if "api" in listeners:  # an operator may mask the socket: then there is no gateway
        parts.append(Control(listeners["api"], verbs, tokens.owner).run)
    with _heard(units, loop):
        leases.resume()
        execute.sweep_starts()
        unused.resume()
        await _run(parts, loop)


@contextlib.contextmanager
def _heard(units: Units, loop: Loop) -> Iterator[None]:
    """Have the loop hear of changes of units, from systemd, and of load, from HAProxy."""
    units.subscribe(loop.unit_changed)
    try:
        with contextlib.closing(Load(RUN / "ingress" / TOLD)) as load:
            load.start(loop.more_load)
            yield
    finally:
        units.leave()


def _root_settings(settings: Settings) -> RootSettings:
    environment = settings.build_environment
    return RootSettings(
        LayerSettings(environment, layer_bytes=memory_bytes(settings.layer_size)),
        PullSettings(settings.mirrors, environment),
        machine_secrets(settings.build_secrets),
        settings.registry_secret,
    )


def _data_verbs(
    data: AppData, apps: Apps, loop: Loop, deploy: Deploy, look: Look, execute: Execute
) -> dict[str, Verb]:  # fmt: skip
    """Return the verbs about what apps keep, and have it watched."""
    apps.disk_note = DiskWatch(data, data.store, loop).note
    apps.deleted = data.forget
    return {**data.verbs(), **DataVerbs(data, deploy.locks, look, execute).verbs()}


def _runs(units: Units, name: str) -> bool:
    return any(unit.active == "active" for unit in units.list([name]))


async def _run(parts: list[Callable[[], Coroutine[Any, Any, None]]], loop: Loop) -> None:
    """Run all parts until SIGTERM. A part that ends by itself ends the daemon, and systemd starts it again."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running: list[asyncio.Task[Any]] = [asyncio.create_task(part()) for part in parts]
    running.append(asyncio.create_task(stop.wait()))
    started = tasks.begin(loop.settle_at_start())
    running.append(started)
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            running.remove(started)
            sd.notify("READY=1")
            tasks.begin(loop.find_outdated())
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        sd.notify("STOPPING=1")
        for task in running:
            if task.done():
                task.result()
    finally:
        await tasks.end(*running)


def last_words(error: FlytedError) -> str:
    """Return why the daemon ends, in one line: systemd keeps it as status, for ``systemctl status`` and flytectl."""
    text = f"{CANNOT_START}{error.message}" + (f" ({error.hint})" if error.hint else "")
    return " ".join(text.split())[:_STATUS_LIMIT]


def main() -> int:
    """Run the command line and return the exit status.

    0 after SIGTERM; 1 when flyted cannot run; 2 for wrong usage; :data:`EX_CONFIG` when the settings are invalid or a
    store is damaged or lost. One line in the journal says why flyted cannot run.
    """
    if sys.argv[1:] == ["--rotate"]:
        return rotation.main()
    if sys.argv[1:] == ["--new-identity"]:
        return identity.new_identity()
    if sys.argv[1:] == ["--new-database"]:
        return new_database()
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"flyted {VERSION}\n")
        return 0
    if sys.argv[1:]:
        sys.stderr.write(
            "usage: flyted [--version | --new-database | --new-identity]\n"
            "(systemd starts it: systemctl start flyted)\n"
        )
        return 2
    to_journal(logging.INFO)
    try:
        listeners = sockets.inherited()
        try:
            parts = settings_file.read(), *opened()
        except (InvalidInput, StoreCorrupt) as error:  # another start does not help: the operator has to act first
            log.critical("%s (%s)", error.message, error.hint or "no hint")
            sd.notify(f"STATUS={last_words(error)}")
            refuse(listeners, error)
            return EX_CONFIG
        gc.collect()  # what the start has left as garbage would otherwise be frozen, too
        gc.freeze()  # the modules and what the store has read stay: a collection of them would hold the loop for long
        asyncio.run(daemon(listeners, *parts))
    except FlytedError as error:
        log.critical("%s (%s)", error.message, error.hint or "no hint")
        sd.notify(f"STATUS={last_words(error)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
