"""Reads properties of systemd's units over D-Bus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flyted.host.bus import PROPERTIES, Bus, Missing
from flyted.host.cpu import cpu_s
from flyted.host.object_path import unit_path
from flyted.host.signatures import text
from flyted.plan.facts import UnitEnd
from flyted.plan.unit_index import AT_REST

UNIT, SERVICE, SOCKET = (f"org.freedesktop.systemd1.{kind}" for kind in ("Unit", "Service", "Socket"))
_NO_JOB = b"/"  # what systemd says of a unit without a job, in place of the job's object path


class UnitProperties:
    """What there is to read of units. Methods raise :class:`HostFailure` when systemd does not answer."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def status(self, name: str) -> str:
        """Return a service's status text (sd_notify(3), ``STATUS=``); "" when it has none, or is not there."""
        try:
            return str(self.get(name, SERVICE, "StatusText").decode("utf-8", "replace"))
        except Missing:
            return ""

    def listening(self, name: str) -> tuple[str, ...]:
        """Return the addresses that a socket unit listens on, in its order; none while it is not active."""
        try:
            if self.active(name) != "active":
                return ()
            return tuple(where.decode() for _kind, where in self.get(name, SOCKET, "Listen"))
        except Missing:
            return ()

    def rests(self, name: str) -> bool:
        """Report whether a unit has ended and no job for it is queued, or whether it is not loaded."""
        try:
            _id, job = self.get(name, UNIT, "Job")
            return job == _NO_JOB and self.active(name) in AT_REST
        except Missing:
            return True

    def ended(self, name: str) -> UnitEnd | None:
        """Return how a service's last run ended; ``None`` when systemd has forgotten it."""
        try:
            if self.get(name, UNIT, "LoadState") != b"loaded":
                return None
            result = self.get(name, SERVICE, "Result").decode()
            return UnitEnd(result, int(self.get(name, SERVICE, "ExecMainStatus")))
        except Missing:
            return None

    def active(self, name: str) -> str:
        """Return a unit's ActiveState. Raises :class:`Missing`."""
        return str(self.get(name, UNIT, "ActiveState").decode())

    def get(self, name: str, interface: str, key: str) -> Any:
        """Return a property of a unit. Raises :class:`Missing` for one that cannot be loaded, :class:`Refused`."""
        return self._bus.call("Get", text(interface), text(key), path=unit_path(name), interface=PROPERTIES)

    def since(self, name: str) -> float:
        """Return when a unit came into its state, in seconds since 1970; 0 if it is not there."""
        try:
            return int(self.get(name, UNIT, "StateChangeTimestamp")) / 1e6
        except Missing:
            return 0.0

    def cpu_s(self, names: Iterable[str]) -> dict[str, float]:
        """Return the seconds of CPU time that each of these apps' services has used since its start, if it runs."""
        return cpu_s(names)
