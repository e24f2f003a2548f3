"""Defines what the loop needs of the machine, as one interface.

``flyted/host`` has the machine's own; ``tests/daemon/fake.py`` has a machine in memory, on which the same loop runs.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flyted.host.ingress import Applied
from flyted.host.journal import Entry
from flyted.plan.facts import UnitEnd
from flyted.plan.gpus.facts import Inventory
from flyted.plan.idle import Traffic
from flyted.plan.ingress.state import IngressState, Listen
from flyted.plan.unit_index import UnitFact, UnitIndex

Wanted = Mapping[str, Any]  # the properties of a unit, by name


class Units(Protocol):
    """systemd's units, as ``host/units.py`` has them."""

    def look(self) -> UnitIndex:
        """Return the units of apps and of the ingress, as systemd has them now."""

    def list(self, patterns: Iterable[str]) -> list[UnitFact]:
        """Return the loaded units whose name matches one of the patterns."""

    def status(self, name: str) -> str:
        """Return what a service says of itself; "" when it says nothing, or is not there."""

    def statuses(self, name: str) -> AsyncGenerator[str]:
        """Yield what a service says of itself, as of now and at each change; never end by itself."""

    def cpu_s(self, names: Iterable[str]) -> dict[str, float]:
        """Return the seconds of CPU time that each of these services has used since its start, where it is known."""

    def since(self, name: str) -> float:
        """Return when a unit came into its state, in seconds since 1970; 0 if it is not there."""

    def rests(self, name: str) -> bool:
        """Report whether a unit has ended and no job for it is queued, or whether it is not loaded."""

    def listening(self, name: str) -> tuple[str, ...]:
        """Return the addresses that a socket unit listens on; none while it is not active."""

    async def start_pair(
        self, socket: str, ours: Wanted, service: str, its: Wanted, mounts: Mapping[str, Wanted], /
    ) -> str:
        """Make both units, and the mounts that they require, and start the socket; return the job's result."""

    async def start_socket(self, name: str, wanted: Mapping[str, Any]) -> str:
        """Make a socket unit and start it; return the job's result."""

    async def start(self, name: str) -> str:
        """Start a unit, wait until it is up, and return the job's result."""

    async def start_beside(self, name: str) -> str:
        """Start a unit, but cancel no job for one that it depends on: the result is then "canceled"."""

    def begin(self, name: str) -> None:
        """Queue a start job for a unit, without waiting for it."""

    def restart(self, name: str) -> None:
        """Queue a restart job for a running unit, without waiting for it."""

    async def stop(self, name: str) -> str:
        """Stop a unit, wait for that, and return the job's result."""

    def kill(self, name: str) -> None:
        """Send SIGKILL to all processes that are left of a unit."""

    def allow_devices(self, name: str, nodes: Sequence[tuple[str, str]]) -> None:
        """Open exactly these device nodes to what a unit starts from now on."""

    async def ask_main(
        self, name: str, number: signal.Signals, answered: Callable[[str], bool], wait_s: float
    ) -> bool:
        """Send a signal to a service's main process; report whether it answered in its status, or ended, in time."""

    async def run_transient(
        self, name: str, wanted: Mapping[str, Any], /, timeout_s: float | None = None, *, clean: Sequence[str] = ()
    ) -> UnitEnd:
        """Run a transient service to its end, and return how it ended."""


class Ingress(Protocol):
    """HAProxy, as ``host/ingress.py`` has it."""

    def write(self, wanted: IngressState, listen: Listen) -> None:
        """Write the files that differ from the wanted state."""

    async def apply(self, wanted: IngressState, listen: Listen, touched: Collection[str] = ()) -> Applied:
        """Write the files, and send the running HAProxy the difference; keep no connection to ``touched`` servers."""

    async def end_kept(self, server: str) -> None:
        """Send no request over a kept connection to a server that is to stop, and end the idle ones."""

    def forget(self) -> None:
        """Make the next :meth:`apply` and :meth:`rules` ask what HAProxy has."""

    async def rules(self) -> str:
        """Return the digest of the rules that the running HAProxy was started with, asked for once."""

    def write_tokens(self) -> Mapping[str, str]:
        """Write the table of tokens, and return it."""

    async def apply_tokens(self) -> None:
        """Write the table of tokens, and send the running HAProxy the difference."""

    async def token_uses(self) -> dict[str, float]:
        """Return how many seconds ago each token was last used since HAProxy's start, by digest."""

    async def set_certificate(self, pem: bytes) -> None:
        """Replace certificate and key of the machine's own names in the running HAProxy."""

    async def apply_certificates(self) -> None:
        """Tell the running HAProxy what differs in the certificates of other base domains, and write them."""

    async def answers_calls(self) -> bool:
        """Report whether the running HAProxy listens for calls between apps."""

    async def stats(self, servers: Collection[str]) -> dict[str, Traffic]:
        """Return the counters of these servers, of those that HAProxy has."""


class Journal(Protocol):
    """The journal, as ``host/journal.py`` has it."""

    async def sync(self) -> None:
        """Wait until the journal has what was sent to it."""

    async def read(
        self,
        units: Sequence[str],
        /,
        *,
        lines: int,
        newest_run: bool = False,
        systemd_only: bool = False,
        app: str = "",
    ) -> list[Entry]:
        """Return the last lines of units, oldest first."""

    def follow(
        self, units: Callable[[], Sequence[str]], changed: Callable[[], Awaitable[None]], *, lines: int, app: str = ""
    ) -> AsyncGenerator[Entry, None]:
        """Yield the last lines of units, then each new one, until no unit is left."""


class Gpus(Protocol):
    """The machine's GPUs, as ``host/gpu.py`` has them."""

    async def inventory(self) -> Inventory:
        """Return all GPUs as they are now."""

    async def watch(self, on_xid: Callable[[str, int], None]) -> None:
        """Call ``on_xid`` at each error of a GPU, until cancelled."""

    def show(self, links: Mapping[str, str]) -> None:
        """Make the folder that apps in root images see contain exactly these links to the driver's files."""


class Clock(Protocol):
    """The machine's clock, which may be set, as ``host/clock.py`` has it; other timers go by the event loop's."""

    def time(self) -> float:
        """Return the seconds since 1970."""

    def start(self, rang: Callable[[bool], None]) -> None:
        """Call ``rang`` at each moment that :meth:`arm` sets, and when the clock was set: then with ``True``."""

    def arm(self, moment: float | None) -> None:
        """Set the timer to ``moment`` instead of the moment of the last call; ``None``: stop it."""


class Watch(Protocol):
    """A watch on files, as ``host/watch_files.py`` has it."""

    @property
    def hears(self) -> bool:
        """True if the kernel reports changes."""

    def start(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` after each change from now on."""


@dataclass(frozen=True)
class Effects:
    """The machine.

    Whatever takes the machine may raise :class:`HostFailure`, or :class:`IngressDown`, as ``flyted/host`` says.
    """

    units: Units
    ingress: Ingress
    journal: Journal
    gpus: Gpus
    clock: Clock
