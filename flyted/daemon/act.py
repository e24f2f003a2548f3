"""Carries out actions (nothing else does) and collects the planner's facts; all of it goes straight to ``host/``."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flyted.contract.errors import FlytedError, HostFailure, IngressDown, NotFound
from flyted.contract.names import WAY_OUT, Replica, network_of, replica_of
from flyted.daemon.ingress.listen import hold
from flyted.host import journal, starts
from flyted.host.disk import is_folder
from flyted.host.ingress import Ingress
from flyted.host.memory import memory_bytes
from flyted.host.store import Store
from flyted.plan.actions import Action, EngineSleep, RenewPair, Sleep, StartPair, StartService, StopPair
from flyted.plan.app_folders import erase_unit, folders_of
from flyted.plan.engines.failures import LINES as ENGINE_LINES
from flyted.plan.engines.failures import engine_failure
from flyted.plan.engines.sleep import ANSWER_S, ASLEEP, answered, sleepers
from flyted.plan.facts import StoredApp, UnitFact
from flyted.plan.idle import Traffic
from flyted.plan.images.build_unit import IMAGES
from flyted.plan.ingress.state import IngressState, Listen
from flyted.plan.reasons import Line, came_up, crash_of, lacks_network, network_reason, reason_of
from flyted.plan.reconcile import serving_replica
from flyted.plan.secrets import INGRESS_UNIT
from flyted.plan.units import Layout, UnitPair, app_units

if TYPE_CHECKING:
    from flyted.host.units import Units

log = logging.getLogger(__name__)

_FAILED_LINES = 30
_REASON_LINES = 120  # a traceback, and what the program prints after it
LAYOUT = Layout()


@dataclass
class Act:
    """The daemon's access to apps: it observes their units and the ingress, and carries out actions."""

    units: Units
    ingress: Ingress
    store: Store
    base_domain: str
    listen: Listen
    nameservers: tuple[str, ...]
    start_timeout_s: int
    gpu_wait_s: int = 0
    before_sleep: Callable[[Replica], Awaitable[None]] | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why a unit was refused a credential at its last start (handover.py), by the unit's name."""
    outdated: set[Replica] = field(default_factory=set)
    """Replicas whose units were made by another version, or with other settings: see :meth:`find_outdated`."""
    _ingress_runs: bool = field(default=False)
    _ingress_tries: bool = field(default=False)

    @property
    def https_port(self) -> int:
        """The port on which the ingress serves HTTPS."""
        return self.listen.https_port

    def apps(self) -> tuple[StoredApp, ...]:
        """Return the apps as the user wants them, oldest first."""
        return self.store.apps()

    async def observe(self, app_id: str = "") -> tuple[dict[str, UnitFact], Mapping[str, Traffic]]:
        """Return the units of all apps, or of one, by name, and HAProxy's counters by server.

        There are no counters while HAProxy is down or no app runs. Whether the ingress runs is remembered for
        :meth:`apply_ingress`. Raises :class:`HostFailure` when systemd does not answer.
        """
        found = self.units.list([_pattern(app_id), INGRESS_UNIT])
        self._ingress_tries = any(u.name == INGRESS_UNIT and u.active == "activating" for u in found)
        self._ingress_runs = any(u.name == INGRESS_UNIT and u.active == "active" for u in found)
        units = {fact.name: fact for fact in found if _is_of(fact.name, app_id)}
        starting = {name for name, fact in units.items() if fact.active == "activating"}
        for name in (sleepers(self.apps()) | starting) & units.keys():
            units[name] = dataclasses.replace(units[name], status=self.units.status(name))
        running = any(u.active == "active" and u.name.endswith(".service") for u in units.values())
        try:
            traffic = await self.ingress.stats() if running and self._ingress_runs else {}
        except IngressDown:
            traffic = {}
        return units, traffic

    def has_units(self, app_id: str) -> bool:
        """Report whether systemd knows a unit of an app."""
        return any(_is_of(fact.name, app_id) for fact in self.units.list([_pattern(app_id)]))

    def heard(self, unit: str) -> bool:
        """Report whether the change of ``unit`` can change what is to be done; "" stands for any unit.

        After a change of the ingress's unit, what HAProxy has is asked for anew.
        """
        if unit in ("", INGRESS_UNIT):
            self.ingress.forget()
            return True
        return replica_of(unit) is not None

    async def do(self, action: Action) -> None:
        """Carry out one action. Raises :class:`HostFailure`, and as :meth:`start_pair`."""
        match action:
            case StartPair(replica):
                await self.start_pair(replica)
            case RenewPair(replica):
                await self._renew(replica)
            case StartService(replica):
                await self._start_or_fail(replica)
            case Sleep(replica):
                log.info("app %s goes to sleep", replica.app_id)
                if self.before_sleep is not None:
                    await self.before_sleep(replica)
                await self.units.stop(replica.service)
            case EngineSleep(replica):
                await self._sleep_engine(replica)
            case StopPair(replica):
                await self.clear(replica)

    async def _sleep_engine(self, replica: Replica) -> None:
        """Put an app's engine to sleep, by a signal to launch, which asks it: root talks to no program of an app.

        An app that does not say in time whether its engine sleeps is stopped.
        """
        if self.before_sleep is not None:
            await self.before_sleep(replica)
        before = self.units.status(replica.service)
        if before.startswith(ASLEEP):
            return
        done = await self.units.ask_main(
            replica.service, signal.SIGUSR1, lambda status: answered(before, status), ANSWER_S
        )
        if done:
            log.info("app %s: %s", replica.app_id, self.units.status(replica.service) or "it is stopped")
        else:
            log.warning("app %s does not say whether it sleeps: it is stopped", replica.app_id)
            await self.units.stop(replica.service)

    async def start_pair(self, replica: Replica) -> None:
        """Make a replica's units; its socket listens when this returns.

        Raises :class:`HostFailure` when the socket cannot listen, :class:`NotFound` when the revision is gone, and
        :class:`InvalidInput` for a revision of which this version of flyted can make no units.
        """
        pair = self._pair(replica)
        starts.write(Path(LAYOUT.start_file(replica)), pair.start)
        result = await self.units.start_pair(replica.socket, pair.socket, replica.service, pair.service)
        if result != "done":
            key = self.store.app(replica.app_id).key
            raise HostFailure(f"the socket of app '{key}' cannot listen: {result}", hint="journalctl -n 30")
        self.outdated.discard(replica)

    def find_outdated(self) -> None:
        """Find the replicas whose units would be made differently now; called once, at the daemon's start.

        Their units are made anew when they sleep. An app whose units cannot be made now keeps those that it has.
        """
        for replica in filter(None, map(serving_replica, self.apps())):
            try:
                wanted = self._pair(replica).start
            except FlytedError as error:
                log.error("the units of app %s cannot be made anew: %s", replica.app_id, error.message)  # noqa: TRY400
                continue
            if starts.read(Path(LAYOUT.start_file(replica))) != wanted:
                self.outdated.add(replica)

    async def _renew(self, replica: Replica) -> None:
        """Make a sleeping pair anew. A request that comes while there is no socket gets 503 from the ingress.

        The socket has to go too, even if it stays as it is: systemd makes no unit in place of one that is loaded, and
        a socket that listens keeps its service loaded (``transient_unit_from_message`` in dbus-manager.c).
        """
        if not self.units.rests(replica.service):
            return  # a request has just come: the pair is made anew at its next sleep
        log.info("app %s: its units are made anew, as they would be made now", replica.app_id)
        await self.units.stop(replica.socket)  # first: if flyted ends here, its next start makes the pair
        await self.start_pair(replica)

    def _pair(self, replica: Replica) -> UnitPair:
        app = self.store.app(replica.app_id)
        revision = app.revision(replica.revision)
        if revision is None:
            raise NotFound(f"app '{app.key}' has no revision {replica.revision}")
        image = revision.image
        return app_units(
            revision.spec, replica, image_path=image.path, image_env=image.env, readable=_python_of(image.path),
            nameservers=self.nameservers, start_s=self.start_timeout_s,
            gpu_wait_s=self.gpu_wait_s, machine_bytes=memory_bytes(),
        )  # fmt: skip

    def sweep_starts(self) -> None:
        """Delete the start files of units that are not there any more: flyted was killed before it could."""
        units = {fact.name for fact in self.units.list(["flyted-app-*"])}
        starts.sweep(Path(LAYOUT.starts), units)

    async def start_service(self, replica: Replica) -> str:
        """Start the service and wait until it serves; return systemd's result of the job, ``done`` if it serves."""
        return await self.units.start(replica.service)

    async def _start_or_fail(self, replica: Replica) -> None:
        result = await self.start_service(replica)
        if result not in ("done", "canceled"):
            raise HostFailure(f"app '{replica.app_id}' does not start: {await self.why_failed(replica)}")

    async def clear(self, replica: Replica) -> None:
        """Stop and forget both units, the socket first: nothing may start the service again."""
        await self.units.stop(replica.socket)
        await self.units.stop(replica.service)
        starts.remove(Path(LAYOUT.start_file(replica)))

    async def erase(self, app: StoredApp) -> None:
        """Delete an app's state and cache. PID 1 does it: the daemon may not even look into them.

        Raises :class:`HostFailure` when something of them is left.
        """
        unit = f"flyted-erase-{app.key.id}.service"
        await self.units.run_transient(unit, erase_unit(app.key.id), clean=["state", "cache"])
        left = [folder for folder in folders_of(app.key.id) if is_folder(folder)]
        if left:
            raise HostFailure(
                f"app '{app.key}' is stopped, but not all of its data could be deleted: {', '.join(left)}",
                hint=f"journalctl -n 20 -u {unit} says why (is something mounted there?); then delete it again",
            )

    async def apply_ingress(self, state: IngressState) -> bool:
        """Make the ingress serve ``state``; return ``False`` when that has to be tried again.

        The ingress's files are brought up to date in any case. An ingress that does not run is left alone: a question
        would start it, and it may be waiting for the daemon. It starts with the files, and its start is a change that
        brings on a pass. Raises :class:`HostFailure` when the disk, HAProxy or PID 1 refuses something.
        """
        if not self._ingress_runs:
            self.ingress.forget()
            self.ingress.write(state, self.listen)
            if self._ingress_tries:  # in vain if somebody has stopped its socket
                await hold(self.units, self.listen)
            return True
        try:
            applied = await self.ingress.apply(state, self.listen)
        except IngressDown as error:
            log.warning("%s", error.message)
            return False
        if applied.restart_needed:
            log.info("the ingress is restarted: its rules have changed")
            self.units.restart(INGRESS_UNIT)
        return not applied.draining

    async def last_lines(self, replica: Replica, lines: int = _FAILED_LINES) -> list[Line]:
        """Return the last lines of the newest run of a replica's service. Raises :class:`HostFailure`."""
        found = await journal.read([replica.service], lines=lines, newest_run=True)
        return [_line(entry) for entry in found]

    async def why_failed(self, replica: Replica) -> str:
        """Say in one sentence why a replica's newest run failed: from the journal, and from what it was refused.

        A journal that cannot be read is the sentence then: it must neither hide that the app failed nor end a pass of
        the engine, which is for all apps. Raises :class:`NotFound` when the app is gone.
        """
        try:
            return await self._reason(replica)
        except HostFailure as error:
            return f"why it failed is not known: {error.message}"

    async def _reason(self, replica: Replica) -> str:
        lines = await self.last_lines(replica, _REASON_LINES)
        if lacks_network(lines):
            units = [network_of(replica), WAY_OUT]
            return network_reason([_line(entry) for entry in await journal.read(units, lines=_FAILED_LINES)])
        known = self.refused.get(replica.service, "") or await self._engine_failure(replica)
        systemds = await journal.read([replica.service], lines=_FAILED_LINES, newest_run=True, systemd_only=True)
        revision = self.store.app(replica.app_id).revision(replica.revision)
        limit = (revision.spec.start_timeout_s if revision else 0) or self.start_timeout_s
        return reason_of(lines, limit, known, started=came_up([_line(entry) for entry in systemds]))

    async def _engine_failure(self, replica: Replica) -> str:
        revision = self.store.app(replica.app_id).revision(replica.revision)
        shape = revision.shape if revision is not None else None
        if shape is None:
            return ""
        return engine_failure(await self.last_lines(replica, ENGINE_LINES), shape.engine.failures)

    async def why_ended(self, replica: Replica) -> str:
        """Return how a service at rest came to an end; "" if it was put to sleep, or the journal does not say."""
        try:
            return crash_of(await self.last_lines(replica, _REASON_LINES))
        except HostFailure as error:
            log.warning("%s", error.message)
            return ""

    async def lines(self, app_id: str, lines: int) -> list[Line]:
        """Return an app's last lines across its revisions, and who changed it. Raises :class:`HostFailure`."""
        return [_line(entry) for entry in await journal.read(self._services(app_id), lines=lines, app=app_id)]

    async def follow(
        self, app_id: str, lines: int, changed: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[Line, None]:
        """Yield an app's last lines, then each new one, also of later revisions; end when the app is deleted.

        ``changed()`` returns when there may be another revision. Raises :class:`HostFailure`.
        """
        found = journal.follow(lambda: self._services(app_id), changed, lines=lines, app=app_id)
        async with contextlib.aclosing(found) as entries:
            async for entry in entries:
                yield _line(entry)

    def _services(self, app_id: str) -> list[str]:
        found = (app for app in self.apps() if app.key.id == app_id)
        return [Replica(app_id, revision.number).service for app in found for revision in app.revisions]


def _pattern(app_id: str) -> str:
    return f"flyted-app-{app_id}-r*" if app_id else "flyted-app-*"


def _is_of(unit: str, app_id: str) -> bool:
    """Report whether a unit that the pattern found is one of this app: "a-r*" finds those of "a-r1" too."""
    replica = replica_of(unit)
    return replica is not None and app_id in ("", replica.app_id)


def _python_of(image: str) -> list[str]:
    """Return the folder of the image's Python, if uv fetched it, as a list of paths to be made readable.

    It lies among the images, where an app sees nothing but its own.
    """
    python = Path(image, "bin/python").resolve()
    return [str(python.parent.parent)] if python.is_relative_to(IMAGES) else []


def _line(entry: journal.Entry) -> Line:
    replica = replica_of(entry.unit)
    return Line(entry.time_us, replica.revision if replica else 0, entry.source, entry.text)
