"""Defines the facts about GPUs: the inventory of the helper ``flyted-gpu``, and the leases. Frozen values. Pure.

Sizes are in bytes. A *device* here is what can be granted: a whole GPU, or a MIG partition of one. Indexes are never
used, because they change with the order of the buses; UUIDs do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flyted.contract.errors import HostFailure
from flyted.contract.gpu import Ask
from flyted.contract.names import Replica, replica_of


@dataclass(frozen=True)
class Process:
    """A process that uses a device. ``unit``: the systemd unit that it runs in, "" if there is none or not known."""

    pid: int
    name: str
    unit: str
    used_bytes: int


@dataclass(frozen=True)
class Device:
    """One GPU or partition.

    ``minor``: the N of /dev/nvidiaN. ``error``: why it cannot be used, "" if it can. ``capabilities``: the minors of
    /dev/nvidia-caps/nvidia-capN that a partition needs. ``split``: whether it is a GPU in MIG mode, of which only the
    ``partitions`` can be used.
    """

    uuid: str
    name: str
    minor: int
    total_bytes: int
    used_bytes: int
    processes: tuple[Process, ...] = ()
    split: bool = False
    partitions: tuple[Device, ...] = ()
    profile: str = ""  # of a partition, such as 1g.5gb
    capabilities: tuple[int, ...] = ()
    error: str = ""

    @property
    def free_bytes(self) -> int:
        """The bytes that are not in use now."""
        return max(0, self.total_bytes - self.used_bytes)

    @property
    def unexplained_bytes(self) -> int:
        """The bytes in use by no listed process: the driver's own, and those that it has not freed yet."""
        return max(0, self.used_bytes - sum(p.used_bytes for p in self.processes))


SHOWN = "/run/flyted/nvidia"
"""The folder of links to the driver's files on the machine: ``lib`` and ``bin``."""


@dataclass(frozen=True)
class DriverFile:
    """A file of NVIDIA's driver. ``place``: where a container has it; ``path``: where it is here, without links.

    ``soname``: by which programs open a library; "" for other files.
    """

    place: str
    path: str
    soname: str = ""


@dataclass(frozen=True)
class DriverFiles:
    """What programs need of NVIDIA's driver. ``source``: the CDI spec that says so, "ldconfig", or "": none is found.

    ``links``: (what it leads to, where it is in a container). ``environment``: variables that a container gets.
    ``problems``: why a spec or a library does not count; ``notes``: what a spec asks for and is not done.
    """

    source: str = ""
    files: tuple[DriverFile, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """All GPUs. ``reason``: why none can be reported (no driver, or a wrong one), else "". ``files``: the driver's."""

    driver: str = ""
    cuda: str = ""
    reason: str = ""
    devices: tuple[Device, ...] = ()
    files: DriverFiles = DriverFiles()

    def every(self) -> tuple[Device, ...]:
        """Return all GPUs, each followed by its partitions."""
        return tuple(each for gpu in self.devices for each in (gpu, *gpu.partitions))

    def find(self, uuid: str) -> Device | None:
        """Return the device with this UUID; ``None`` if it is gone."""
        return next((d for d in self.every() if d.uuid == uuid), None)

    def gpu_of(self, uuid: str) -> Device | None:
        """Return the GPU that has this UUID or has a partition with it; ``None`` if it is gone."""
        return next((g for g in self.devices if uuid in (g.uuid, *(p.uuid for p in g.partitions))), None)


@dataclass(frozen=True)
class Lease:
    """A unit's right to devices, from the grant until their memory is free again.

    ``reserve_bytes``: the bytes that it may take of one device; 0 means all, because its need is not known or it has
    several devices. ``unexplained``: ``unexplained_bytes`` of each device at the grant. ``ended_at``: when its unit
    was found to have ended, ``None`` while it runs. Times are seconds since the epoch.
    """

    unit: str
    app_id: str
    revision: int
    devices: tuple[str, ...]
    since: float
    names: tuple[str, ...] = ()  # of the products, for people
    reserve_bytes: int = 0
    unexplained: tuple[int, ...] = ()
    ended_at: float | None = None

    @property
    def replica(self) -> int:
        """The number of the replica that has it."""
        replica = replica_of(self.unit)
        return replica.number if replica is not None else 0

    def over(self, now: float) -> Lease:
        """Return the lease as one whose unit ended at ``now``."""
        return replace(self, ended_at=now)


@dataclass(frozen=True)
class Learned:
    """Measurements of an app's earlier runs: its peak of memory on one device, and the seconds that it loads."""

    peak_bytes: int = 0  # 0: not known
    load_s: float = 0.0


@dataclass(frozen=True)
class Asking:
    """A start that systemd holds until it is given devices. ``why``: for people, why it waits.

    ``number``: no other start has it, also none of the same unit.
    """

    replica: Replica
    ask: Ask
    why: str = "other starts are ahead of it"
    number: int = 0

    @property
    def unit(self) -> str:
        """The unit that starts."""
        return self.replica.service


@dataclass(frozen=True)
class GpuFacts:
    """What the daemon knows about GPUs; to look at them takes a helper, so that there need not be an inventory.

    ``learned``: app id → what earlier runs showed. ``asking``: the starts that wait, in the order in which they came.
    ``refused``: unit → why, of starts that got no lease and may not have ended yet. ``lost``: unit → why, of units
    whose GPUs failed. ``loading``: units that have a lease and have not been seen up yet. ``returning``: units that
    have ended and whose memory is waited for. ``inventory``: the GPUs as they were a moment ago. ``error``: why a look
    at them failed a moment ago.
    """

    leases: tuple[Lease, ...] = ()
    learned: Mapping[str, Learned] = field(default_factory=dict)
    asking: tuple[Asking, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    loading: frozenset[str] = frozenset()
    returning: frozenset[str] = frozenset()
    inventory: Inventory | None = None
    error: str = ""

    @property
    def waits(self) -> dict[str, str]:
        """Unit → why it has no GPU yet."""
        return {each.unit: each.why for each in self.asking}


def inventory_of(data: Mapping[str, Any]) -> Inventory:
    """Return the helper's answer as an :class:`Inventory`.

    Raises :class:`HostFailure` if the answer is not valid: the helper passes on what a foreign library says.
    """
    try:
        return Inventory(
            driver=_text(data["driver"]),
            cuda=_text(data["cuda"]),
            reason=_text(data["reason"]),
            devices=tuple(_device(each) for each in data["devices"]),
            files=_files(data["files"])
            if "files" in data
            else DriverFiles(),  # not of a helper from before an upgrade
        )
    except (KeyError, TypeError, ValueError) as error:
        raise HostFailure(f"flyted-gpu gave a malformed answer: {error!r}") from error


def xid_of(data: Mapping[str, Any]) -> tuple[str, int]:
    """Return the GPU (its UUID) and the number of an error that the helper reports, or raise as :func:`inventory_of`.

    A report without them, "" and 0, says that errors may have been missed.
    """
    try:
        return _text(data.get("uuid", "")), _size(data.get("xid", 0))
    except ValueError as error:
        raise HostFailure(f"flyted-gpu gave a malformed report: {error!r}") from error


def _text(value: Any) -> str:
    """Return a short, printable text, since it goes to units, logs and terminals. Raises ``ValueError`` otherwise."""
    if not isinstance(value, str) or len(value) > 256 or not value.isprintable():
        raise ValueError(f"{value!r:.80} is not a text of one line")
    return value


def _long_text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 4096 or not value.isprintable():
        raise ValueError(f"{value!r:.80} is not a text of one line")
    return value


def _files(data: Mapping[str, Any]) -> DriverFiles:
    return DriverFiles(
        source=_long_text(data["source"]),
        files=tuple(DriverFile(*map(_long_text, each)) for each in data["found"]),
        links=tuple((_long_text(target), _long_text(link)) for target, link in data["links"]),
        environment=tuple((_long_text(name), _long_text(value)) for name, value in data["environment"]),
        problems=tuple(map(_long_text, data["problems"])),
        notes=tuple(map(_long_text, data["notes"])),
    )


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r:.80} is not a size")
    return value


def _device(data: Mapping[str, Any]) -> Device:
    return Device(
        uuid=_text(data["uuid"]),
        name=_text(data["name"]),
        minor=_size(data["minor"]),
        total_bytes=_size(data["total"]),
        used_bytes=_size(data["used"]),
        processes=tuple(
            Process(_size(p["pid"]), _text(p["name"]), _text(p["unit"]), _size(p["used"])) for p in data["processes"]
        ),
        split=bool(data["split"]),
        partitions=tuple(_device(p) for p in data["partitions"]),
        profile=_text(data["profile"]),
        capabilities=tuple(_size(c) for c in data["capabilities"]),
        error=_text(data["error"]),
    )
