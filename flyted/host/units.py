"""Starts and stops systemd's units over D-Bus, waits for their jobs, and reports their changes.

Every wait is for a signal: a call queues a job, and ``JobRemoved`` has its result. There is never a ``daemon-reload``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from flyted.contract.errors import HostFailure
from flyted.host.bus import Bus, Missing, Refused, Signal
from flyted.host.jobs import Jobs
from flyted.host.kept_units import KeptUnits
from flyted.host.object_path import unit_of
from flyted.host.signatures import Step, auxiliary, properties, text, texts
from flyted.host.unit_properties import UNIT, UnitProperties
from flyted.plan.facts import UnitEnd
from flyted.plan.unit_index import UnitFact, UnitIndex

JOB_S = 60.0  # in addition to the longest start, and the longest stop before it
COLLECT_S = 10.0
_OURS = "flyted-"
_NEVER_BEGAN = ("canceled", "dependency")
_CLEAN_END = UnitEnd("success", 0)
Wanted = Mapping[str, Any]  # the properties of a unit, by name
NONE: Mapping[str, Wanted] = MappingProxyType({})


class Units(UnitProperties):
    """The units of this machine. Job results: "done", "failed", "timeout", "canceled", "dependency", "skipped".

    Methods raise :class:`HostFailure` when systemd refuses (:class:`Refused`), a job takes too long, or there is no
    connection; and :class:`FlytedError` for properties and names that ``signatures`` refuses.
    """

    def __init__(
        self, longest_s: float = 340.0, kill_s: float = 35.0, *, kept: Sequence[str] = ("flyted-app-*",)
    ) -> None:
        """Set the limits in seconds: ``longest_s`` of a job of an app's units, ``kill_s`` of a stop before SIGKILL.

        ``kept``: the patterns of the units that :meth:`look` returns.
        """
        self._kill_s = kill_s
        super().__init__(Bus(self._signal, self._lost))
        self._kept = KeptUnits(kept, self.list, self._bus.sync)
        self._jobs = Jobs(longest_s + JOB_S)
        self._watched: dict[str, set[asyncio.Event]] = {}
        self._callback: Callable[[str], None] = lambda _name: None
        self._leaving = False

    def open(self) -> None:
        """Connect, from inside the running loop; from then on a lost connection is re-established automatically."""
        self._bus.open()

    def leave(self) -> None:
        """From now on let transient services go on whose callers are cancelled: flyted ends, and nobody else does."""
        self._leaving = True

    def close(self) -> None:
        """Disconnect from the bus; jobs continue, and their waiters get :class:`HostFailure`."""
        self._bus.close()
        self._jobs.lost()

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(unit)`` at each change of a ``flyted-…`` unit; "" if changes may have been missed."""
        self._callback = callback

    async def start_pair(
        self, socket: str, ours: Wanted, service: str, its: Wanted, mounts: Mapping[str, Wanted] = NONE
    ) -> str:
        """Make both units, and the ``mounts`` that they require by name, as :meth:`start_socket`."""
        return await self.start_socket(socket, ours, {service: its, **mounts})

    async def start_socket(self, name: str, wanted: Wanted, others: Mapping[str, Wanted] = NONE) -> str:
        """Make a socket unit and others, in place of leftovers, and start the socket; return the job's result.

        Its service must not run: systemd refuses to start a socket beside it.
        """
        steps = [*properties(wanted), *auxiliary(others.items())]
        return await self._jobs.finished(await self._begin(name, steps, [name, *others], evict=True))

    async def run_transient(
        self, name: str, wanted: Wanted, timeout_s: float | None = None, *, clean: Sequence[str] = ()
    ) -> UnitEnd:
        """Run a transient service to its end, and return how it ended.

        ``timeout_s``: seconds for the whole; systemd has its own limits for the unit. ``clean``: which of the unit's
        folders systemd deletes after a clean end ("state", "cache"; systemctl(1), clean).

        Cancelling the caller stops the unit, also one of the same name that an earlier flyted has left, but not after
        :meth:`leave`. Raises :class:`HostFailure` when it cannot be created, it is stopped before it begins, or it is
        too slow.
        """
        # AddRef keeps the ended unit until we have read how it ended, whatever its CollectMode
        steps = [*properties({**wanted, "AddRef": True}), *auxiliary([])]
        try:
            async with asyncio.timeout(timeout_s), self._watch([name]) as changed, self._stopped_if_cancelled(name):
                job = await self._begin(name, steps, [name], evict=False)
                try:
                    if (result := await self._jobs.finished(job)) in _NEVER_BEGAN:
                        raise HostFailure(f"systemd did not start {name}: {result}", hint="run the command again")
                    await self._until_ended(name, changed)
                    end = self.ended(name) or _CLEAN_END
                    if clean and end == _CLEAN_END:
                        self._bus.call("CleanUnit", text(name), *texts(clean))
                        await self._until_ended(name, changed)
                    return end
                finally:
                    self._quietly("UnrefUnit", text(name))
                    self._forget(name)
        except TimeoutError as error:
            raise HostFailure(f"{name} did not end within {timeout_s:g} s") from error

    @contextlib.asynccontextmanager
    async def _stopped_if_cancelled(self, name: str) -> AsyncIterator[None]:
        try:
            yield
        except asyncio.CancelledError:  # the caller's, or the time limit's
            if not self._leaving:
                await asyncio.shield(self.stop(name))
            raise

    async def _until_ended(self, name: str, changed: asyncio.Event) -> None:
        while not self.rests(name):
            await changed.wait()
            changed.clear()

    async def start(self, name: str) -> str:
        """Start a unit, wait for the job (of a ``Type=notify`` service: until it is ready), and return its result."""
        return await self._job("StartUnit", text(name), text("replace"))

    async def start_beside(self, name: str) -> str:
        """Start a unit as :meth:`start` does, but cancel no other job for it: the result is then "canceled"."""
        try:
            return await self._job("StartUnit", text(name), text("fail"))
        except Refused as error:
            if error.errno != errno.EDEADLK:  # "Transaction is destructive" (systemd's bus-error.c)
                raise
            return "canceled"

    def begin(self, name: str) -> None:
        """Queue a start job for a unit, without waiting for it.

        To wait would be a deadlock where the unit is ordered ``After=flyted.service``: it waits until flyted is ready.
        """
        self._bus.call("StartUnit", text(name), text("replace"))

    def restart(self, name: str) -> None:
        """Queue a restart job for a running unit, without waiting for it, as :meth:`begin`."""
        self._bus.call("TryRestartUnit", text(name), text("replace"))

    async def stop(self, name: str) -> str:
        """Stop a unit, wait for the job, and return its result; a unit that is not there counts as stopped ("done").

        A service that puts off systemd's own limit gets SIGKILL, all of it, after ``kill_s`` seconds. A deliberate
        stop also resets systemd's count of starts: sleeping and waking is not crashing.
        """
        self._thaw(name)
        kill = asyncio.get_running_loop().call_later(self._kill_s, self.kill, name)
        try:
            return await self._job("StopUnit", text(name), text("replace"))
        except Missing:
            return "done"
        finally:
            kill.cancel()
            self._forget(name)

    def allow_devices(self, name: str, nodes: Sequence[tuple[str, str]]) -> None:
        """Open exactly these device nodes (path, and "r", "w" or "rw") to a unit, until it is collected.

        This counts for the processes that systemd starts from now on. Raises :class:`HostFailure`.
        """
        # empty first: nodes that were opened for an earlier start are closed again
        steps = [*properties({"DeviceAllow": []})[:-1], *properties({"DeviceAllow": list(nodes)})[1:]]
        self._bus.call("SetUnitProperties", text(name), (ord("b"), True), *steps)

    async def statuses(self, name: str) -> AsyncGenerator[str]:
        """Yield a service's status text, as of now and each time that it changes; never end by itself."""
        said = ""
        async with self._watch([name]) as changed:
            while True:
                if (now := self.status(name)) != said:
                    said = now
                    yield said
                await changed.wait()
                changed.clear()

    async def ask_main(
        self, name: str, number: signal.Signals, answered: Callable[[str], bool], wait_s: float
    ) -> bool:
        """Send a signal to a service's main process, and wait until its status is an answer or the service has ended.

        Returns ``False`` after ``wait_s`` seconds without either.
        """
        try:
            async with asyncio.timeout(wait_s), self._watch([name]) as changed:
                self._bus.call("KillUnit", text(name), text("main"), (ord("i"), number))
                while self.active(name) == "active" and not answered(self.status(name)):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return False
        return True

    def kill(self, name: str) -> None:
        """Send SIGKILL to all processes that are left of a unit, also of one that has ended."""
        self._quietly("KillUnit", text(name), text("all"), (ord("i"), signal.SIGKILL))

    def _forget(self, name: str) -> None:
        self._quietly("ResetFailedUnit", text(name))

    def look(self) -> UnitIndex:
        """Return the units that are kept, as systemd has them now; ask only about those that have come."""
        return self._kept.look()

    def list(self, patterns: Iterable[str] = ("flyted-*",)) -> list[UnitFact]:
        """Return the loaded units whose name matches one of the patterns."""
        rows = self._bus.call("ListUnitsByPatterns", *texts([]), *texts(patterns)) or []
        return [UnitFact(*(field.decode() for field in (row[0], row[2], row[3], row[4]))) for row in rows]

    async def _begin(self, name: str, steps: Sequence[Step], names: Sequence[str], *, evict: bool) -> str:
        """Call ``StartTransientUnit``, and return its job; a unit of the same name that has ended is collected first.

        One that runs, or is about to start, is stopped with ``evict``, else waited for.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + COLLECT_S
        async with self._watch(names) as changed:
            while True:
                self._kept.changed(*names)  # systemd sends no change of a unit that it makes and does not start
                try:
                    return str(self._bus.call("StartTransientUnit", text(name), text("replace"), *steps).decode())
                except Refused as error:
                    if error.errno != errno.EEXIST or clock() > deadline:
                        raise
                if not evict and not self.rests(name):
                    await self._until_ended(name, changed)
                    deadline = clock() + COLLECT_S
                changed.clear()
                for other in names:
                    await self.stop(other)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await changed.wait()

    async def _job(self, method: str, *steps: Step) -> str:
        return await self._jobs.finished(self._bus.call(method, *steps).decode())

    def _thaw(self, name: str) -> None:
        """Thaw a unit: systemd refuses to stop a frozen one ("Cannot perform operation on frozen unit")."""
        try:
            if self.get(name, UNIT, "FreezerState") not in (b"running", b""):
                self._bus.call("ThawUnit", text(name))
        except Refused:
            return  # not loaded, or a kind of unit that does not freeze

    def _quietly(self, method: str, *steps: Step) -> None:
        with contextlib.suppress(HostFailure):  # not loaded (any more): nothing to do
            self._bus.call(method, *steps)

    @contextlib.asynccontextmanager
    async def _watch(self, names: Sequence[str]) -> AsyncIterator[asyncio.Event]:
        event = asyncio.Event()
        for name in names:
            self._watched.setdefault(name, set()).add(event)
        try:
            yield event
        finally:
            for name in names:
                self._watched[name].discard(event)
                if not self._watched[name]:
                    del self._watched[name]

    def _signal(self, signal: Signal) -> None:
        match signal.member:
            case "JobRemoved":
                _id, job, unit, result = signal.body[:4]
                self._jobs.removed(job.decode(), result.decode())
                name = unit.decode()  # systemd signals the unit's own change before (bus_job_send_removed_signal)
            case "UnitRemoved":
                name = signal.body[0].decode()
                self._kept.gone(name)
            case "Reloading":
                self._kept.forget()
                return
            case _:
                name = unit_of(signal.path)
                if name.startswith(_OURS):
                    self._stated(name, signal.body[1])
        for event in self._watched.get(name, ()):
            event.set()
        if name.startswith(_OURS):
            self._callback(name)

    def _stated(self, name: str, properties: Mapping[bytes, Any]) -> None:
        """Keep a unit's new state, if a change of its properties says it (Properties.PropertiesChanged)."""
        try:
            active, sub = (properties[key].decode() for key in (b"ActiveState", b"SubState"))
        except (KeyError, AttributeError):
            self._kept.changed(name)
        else:
            self._kept.stated(name, active, sub)

    def _lost(self) -> None:
        """Fail every job and wake every watcher: signals may have been missed, so a job may have ended unnoticed."""
        self._kept.forget()
        self._jobs.lost()
        for events in self._watched.values():
            for event in events:
                event.set()
        self._callback("")
