"""Carries out the plan's actions. No other module does, and no other module changes the units of apps.

Two units are started by the code that answers for them instead: the one that measures an app's data
(``apps/data.py``), and the ingress's socket at the daemon's start (``ingress/listen.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Collection, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyted.contract.errors import FlytedError, HostFailure, IngressDown, NotFound
from flyted.contract.names import EGRESS_UNIT, Replica, replica_of
from flyted.daemon.access.ingress_tokens import IngressTokens
from flyted.daemon.apps.callers import Callers
from flyted.daemon.apps.idle import Idle
from flyted.daemon.config import Config
from flyted.daemon.effects import Effects
from flyted.daemon.explain import Explain
from flyted.daemon.gpus.inventory import GpuInventory
from flyted.daemon.images.images import Images
from flyted.daemon.images.unused import UnusedImages
from flyted.daemon.images.venvs import python_of
from flyted.daemon.ingress.acme import Acme
from flyted.daemon.ingress.kept import end_kept
from flyted.daemon.ingress.listen import ensure_socket
from flyted.daemon.ingress.tls import Tls
from flyted.host import starts
from flyted.host.disk import is_folder
from flyted.host.ingress import Applied
from flyted.host.memory import memory_bytes
from flyted.host.store import Store
from flyted.plan.actions import (
    ApplyCertificates,
    BuildImage,
    CheckTokens,
    EngineSleep,
    Evict,
    FailPair,
    Freeze,
    IngressAction,
    KillUnit,
    ListenIngress,
    MakeLayer,
    OpenDevices,
    OrderCertificate,
    PairAction,
    PullImage,
    RemoveImages,
    RenewCertificate,
    RenewPair,
    RestartIngress,
    RevokeCertificate,
    ShowDriver,
    Sleep,
    StartPair,
    StartService,
    StopPair,
    Thaw,
    UnitAction,
    UpkeepAction,
)
from flyted.plan.app_folders import erase_unit, folders_of
from flyted.plan.calls import is_old
from flyted.plan.facts import StoredApp
from flyted.plan.images.entrypoint import with_entrypoint
from flyted.plan.ingress.ports import INGRESS_UNIT
from flyted.plan.reconcile import Plan
from flyted.plan.units import UnitPair, app_units

log = logging.getLogger(__name__)

COMPARED_AT_ONCE = 10
JOB_S = 1.0
"""Seconds until a start whose job waits is checked again: the unit's state shows it only when the job begins."""


@dataclass
class Execute:
    """Carries out what the loop and the verbs decide; it decides nothing itself."""

    machine: Effects
    store: Store
    config: Config
    explain: Explain
    gpus: GpuInventory
    images: Images
    unused: UnusedImages
    tokens: IngressTokens
    tls: Tls
    acme: Acme
    callers: Callers
    documents: dict[Replica, int] = field(default_factory=dict)
    """The replicas that may have a start document, each with a number that no document written before it had."""
    idle: Idle = field(init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    outdated: set[Replica] = field(default_factory=set)
    """Replicas whose units were created by another version, or with other settings: see :meth:`find_outdated`."""

    def __post_init__(self) -> None:
        """Make the part that puts idle apps to sleep."""
        self.idle = Idle(self.machine, self.gpus)

    def at_once(self, action: UnitAction) -> None:
        """Carry out an action that takes no time. Raises :class:`HostFailure` when it fails."""
        match action:
            case KillUnit(unit, reason):
                log.warning("%s %s: killing its remaining processes", unit, reason)
                self.machine.units.kill(unit)
            case OpenDevices(unit, nodes):
                self.machine.units.allow_devices(unit, nodes)
            case ShowDriver(links):
                self.machine.gpus.show(dict(links))

    async def do(self, action: PairAction) -> None:
        """Carry out an action on a pair. Raises :class:`HostFailure`, and as :meth:`start_pair`."""
        match action:
            case StartPair(replica):
                await self.start_pair(replica)
            case RenewPair(replica):
                await self._renew(replica)
            case StartService(replica):
                await self._start_or_fail(replica)
            case Sleep() | Freeze() | Thaw() | EngineSleep() | Evict():
                await self.idle.do(action)
            case StopPair(replica) | FailPair(replica):
                await self.clear(replica)

    def upkeep(self, action: UpkeepAction) -> Coroutine[Any, Any, None]:
        """Return the coroutine of an action that belongs to no single app. From this call on it counts as begun."""
        match action:
            case BuildImage() | PullImage() | MakeLayer():
                return self.images.builds.carry_out(action)
            case RemoveImages():
                return self.unused.removal(action)
            case CheckTokens():
                return self.tokens.check()
            case RenewCertificate():
                return self.tls.renew()
            case OrderCertificate(name):
                return self.acme.order(name)
            case RevokeCertificate(fingerprint):
                return self.acme.revoke(fingerprint)
            case ApplyCertificates():
                return self.tls.apply()

    async def start_pair(self, replica: Replica) -> None:
        """Create a replica's units; its socket listens when this returns.

        Raises :class:`HostFailure` when the socket cannot listen, :class:`NotFound` when the revision is gone, and
        :class:`InvalidInput` for a revision for which this version of flyted cannot create units.
        """
        pair = self._pair(replica)
        with contextlib.suppress(HostFailure):  # a disk that refuses costs its lines in the app's log, no start
            self.store.begun(replica)
        self.documents[replica] = next(self._numbers)
        starts.write(Path(self.config.layout.start_file(replica)), pair.start)
        if pair.hosts:
            self.callers.give(replica, pair)
            self._renew_router()
        else:
            self.callers.give_none(replica)
        result = await self.machine.units.start_pair(
            replica.socket, pair.socket, replica.service, pair.service, pair.mounts
        )
        if result != "done":
            key = self.store.app(replica.app_id).key
            if pair.mounts and result == "dependency":
                (mount,) = pair.mounts
                raise HostFailure(f"the root of app '{key}' cannot be mounted", hint=f"journalctl -n 30 -u {mount}")
            raise HostFailure(f"the socket of app '{key}' cannot listen: {result}", hint="journalctl -n 30")
        self.outdated.discard(replica)

    def _renew_router(self) -> None:
        if is_old(self.machine.units.status(EGRESS_UNIT)):
            log.info("restarting %s, which is of a version that leads no app to another", EGRESS_UNIT)
            self.machine.units.restart(EGRESS_UNIT)

    async def find_outdated(self) -> None:
        """Find the replicas whose units would be defined differently now; called once, at the daemon's start.

        Their units are re-created when they sleep. An app whose units cannot be created now keeps those that it has.
        It yields to other tasks between apps: the units of one take half a millisecond.
        """
        for number, app in enumerate(self.store.apps()):
            if number % COMPARED_AT_ONCE == 0:
                await asyncio.sleep(0)
            if (now := self.store.find(app.key)) is not None:  # it may have changed while other tasks ran
                self.outdated |= {replica for replica in now.serving_replicas if self._is_outdated(replica)}

    def _is_outdated(self, replica: Replica) -> bool:
        try:
            return starts.read(Path(self.config.layout.start_file(replica))) != self._pair(replica).start
        except FlytedError as error:
            log.error("cannot re-create the units of app %s: %s", replica.app_id, error.message)  # noqa: TRY400
            return False

    async def _renew(self, replica: Replica) -> None:
        """Re-create a sleeping pair.

        A request that comes while there is no socket waits for it: the host stays in HAProxy's map, and HAProxy tries
        again to connect for three seconds (``retries``). Only then it answers 503.

        The socket has to go too, even if it stays as it is: systemd makes no unit in place of one that is loaded, and
        a socket that listens keeps its service loaded (``transient_unit_from_message`` in dbus-manager.c).
        """
        if not self.machine.units.rests(replica.service):
            await asyncio.sleep(JOB_S)  # a request has come: its pair is re-created at its next sleep
            return
        log.info("re-creating the units of app %s with the current version and settings", replica.app_id)
        await self.machine.units.stop(replica.socket)  # first: if flyted ends here, its next start makes the pair
        if not self.machine.units.rests(replica.service):  # a request came just before the socket went
            await self.machine.units.start(replica.service)  # it is under way: this waits for it, and fails with it
            await self.machine.units.stop(replica.service)  # which waits for the answer
        await self.start_pair(replica)

    def _pair(self, replica: Replica) -> UnitPair:
        app = self.store.app(replica.app_id)
        revision = app.revision(replica.revision)
        if revision is None:
            raise NotFound(f"app '{app.key}' has no revision {replica.revision}")
        spec, image = revision.spec, revision.image
        if image.root is not None:
            spec = with_entrypoint(spec, image.root)
        return app_units(
            spec, replica, image_path=image.path, image_env=image.env, root=image.root,
            platform=self.config.platform, readable=python_of(image.path),
            nameservers=self.config.nameservers, hosts=self.config.hosts, start_s=self.config.start_timeout_s,
            gpu_wait_s=self.config.gpu_wait_s, machine_bytes=memory_bytes(),
        )  # fmt: skip

    def forget(self, replica: Replica) -> None:
        """Remove the start document of a replica that has no units."""
        starts.remove(Path(self.config.layout.start_file(replica)))
        self.documents.pop(replica, None)

    def sweep_starts(self) -> None:
        """Delete the start documents of units that no longer exist: flyted was killed before it could."""
        units = self.machine.units.look()
        starts.sweep(Path(self.config.layout.starts), units)
        self.documents |= {replica: 0 for unit in units if (replica := replica_of(unit)) is not None}
        self.callers.read()

    async def start_service(self, replica: Replica) -> str:
        """Start the service and wait until it serves; return systemd's result of the job, ``done`` if it serves."""
        return await self.machine.units.start(replica.service)

    async def _start_or_fail(self, replica: Replica) -> None:
        result = await self.start_service(replica)
        if result not in ("done", "canceled"):
            raise HostFailure(f"app '{replica.app_id}' does not start: {await self.explain.why_failed(replica)}")

    async def clear(self, replica: Replica) -> None:
        """Stop and forget both units, the socket first: nothing may start the service again."""
        await end_kept(self.machine, replica)
        await self.machine.units.stop(replica.socket)
        await self.machine.units.stop(replica.service)
        self.forget(replica)

    async def erase(self, app: StoredApp) -> None:
        """Delete an app's state and cache. PID 1 does it: the daemon may not access them.

        Raises :class:`HostFailure` when not all of it could be deleted.
        """
        unit = f"flyted-erase-{app.key.id}.service"
        await self.machine.units.run_transient(unit, erase_unit(app.key.id), clean=["state", "cache"])
        left = [folder for folder in folders_of(app.key.id) if is_folder(folder)]
        if left:
            raise HostFailure(
                f"app '{app.key}' is stopped, but not all of its data could be deleted: {', '.join(left)}",
                hint=f"journalctl -n 20 -u {unit} says why (is something mounted there?); then delete the app again",
            )

    async def apply_ingress(self, plan: Plan, unit: str, touched: Collection[str] = ()) -> Applied | None:
        """Make the ingress serve the plan; return the remaining work, ``None`` if HAProxy runs and was not updated.

        ``unit``: the state of the ingress's unit, as the look of this pass found it (``Facts.ingress``). ``touched``:
        the servers on whose replicas work has begun since. The files are brought up to date in any case. An ingress
        that does not run is left alone: connecting would start it, and it may be waiting for the daemon. Its start
        causes a pass. Raises :class:`HostFailure` when the disk, HAProxy or PID 1 refuses something.
        """
        first = next((each for each in plan.actions if isinstance(each, IngressAction)), None)
        if unit != "active" or first is not None:
            self.machine.ingress.forget()
            self.machine.ingress.write(plan.ingress, self.config.listen)
            if first is not None:
                await self._change_ingress(first)
            return None if unit == "active" else Applied()
        try:
            return await self.machine.ingress.apply(plan.ingress, self.config.listen, touched)
        except IngressDown as error:
            log.warning("%s", error.message)
            return None

    async def _change_ingress(self, action: IngressAction) -> None:
        match action:
            case RestartIngress():
                log.info("restarting the ingress: its rules have changed")
                self.machine.units.restart(INGRESS_UNIT)
            case ListenIngress():
                await ensure_socket(self.machine.units, self.config.listen)
