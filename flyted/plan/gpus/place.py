"""Decides which devices an app gets, which apps to put to sleep for it, or why it has to wait. Pure.

An app whose need is not known gets whole devices. Once its peak of memory was seen, it may share a device with others
whose peaks are known too, if all peaks fit together. An empty device comes first; then the one with the fewest
holders; among equals the one that fits best.

Programs that are not apps may use a little of a whole device (:func:`spare`): a desktop must not keep every app away.
Where they use more, an app that needs a whole one waits, and its message says so.

Only idle apps are put to sleep to free a device: first the app with the longest idle time relative to its time to load
again. Each one of those is needed: if one of them stayed, the app would have to wait. Nobody is put to sleep while a
unit that ends anyway, such as one that was put to sleep a moment ago, makes the room.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import inf

from flyted.contract.gpu import Ask
from flyted.contract.names import replica_of
from flyted.contract.quantity import human_bytes
from flyted.plan.gpus.facts import Device, Inventory, Lease, Process
from flyted.plan.gpus.match import grantable, impossible

HEADROOM = 1.1
"""The share of a peak that is reserved: the next peak may be higher than the last one that was seen."""

_DESKTOP = 2 << 30


@dataclass(frozen=True)
class Granted:
    """The app gets these devices. ``reserve_bytes``: as in :class:`Lease`."""

    devices: tuple[Device, ...]
    reserve_bytes: int


@dataclass(frozen=True)
class Wait:
    """The app has to wait: why, for people, and the units to put to sleep so that it can be granted devices.

    ``claims``: the devices that it may get once apps that hold them have gone, so no later start gets them first.
    """

    why: str
    evict: tuple[str, ...] = ()
    claims: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Never:
    """An ask that this machine cannot satisfy even with all its GPUs free."""

    why: str


@dataclass(frozen=True)
class Wanted:
    """A request for GPUs: the unit, what it asks for, and the bytes of its peak on one device (0: not known)."""

    unit: str
    ask: Ask
    peak_bytes: int = 0

    @property
    def reserve_bytes(self) -> int:
        """The bytes that it gets of a device; 0 means all."""
        return round(self.peak_bytes * HEADROOM) if self.ask.count == 1 else 0


@dataclass(frozen=True)
class Occupancy:
    """The current holders. ``idle``: unit that may be put to sleep → seconds idle ÷ seconds to load again.

    ``ending``: units that give their devices back soon, whatever is decided.
    """

    leases: tuple[Lease, ...]
    idle: Mapping[str, float] = field(default_factory=dict)
    ending: frozenset[str] = frozenset()

    def on(self, device: Device, but: str) -> list[Lease]:
        """Return the leases on a device, without a running lease of the unit ``but``.

        An app's unit that uses the device without a lease (its record was lost) counts as if it held all of it.
        """
        # the unit's own earlier lease counts until its memory is free again
        found = [
            lease for lease in self.leases
            if device.uuid in lease.devices and (lease.unit != but or lease.ended_at is not None)
        ]  # fmt: skip
        known = {lease.unit for lease in self.leases} | {but}
        for unit in sorted({p.unit for p in device.processes} - known):
            replica = replica_of(unit)
            if replica is not None:
                found.append(Lease(unit, replica.app_id, replica.revision, (device.uuid,), 0.0))
        return found


def place(wanted: Wanted, inventory: Inventory, occupancy: Occupancy) -> Granted | Wait | Never:
    """Decide about a request. ``occupancy`` must not contain leases whose memory is free again."""
    never = impossible(wanted.ask, inventory)
    if never:
        return Never(never)
    suitable = grantable(wanted.ask, inventory)
    if wanted.peak_bytes > max(device.total_bytes - device.unexplained_bytes for device in suitable):
        wanted = replace(wanted, peak_bytes=0)  # it was seen on a larger device than there is now
    kinds = [list(group) for _, group in groupby(sorted(suitable, key=_kind), key=_kind)]
    enough = [kind for kind in kinds if len(kind) >= wanted.ask.count]
    for kind in enough:
        free = sorted(_free(wanted, kind, occupancy), key=_order(wanted, occupancy))
        if len(free) >= wanted.ask.count:
            devices = tuple(free[: wanted.ask.count])
            return Granted(devices, min(wanted.reserve_bytes, devices[0].total_bytes))
    soon = any(_soon(wanted, kind, occupancy) for kind in enough)  # what ends makes the room: nobody sleeps for it
    rooms = [] if soon else [room for kind in enough if (room := _room(wanted, kind, occupancy))]
    best = max(rooms, key=lambda units: min(occupancy.idle[unit] for unit in units), default=())
    claims = frozenset(d.uuid for d in suitable if not _crowded(wanted, d, occupancy.on(d, wanted.unit)))
    return Wait(_why(wanted, suitable, occupancy), best, claims)


def _kind(device: Device) -> tuple[str, str]:
    return device.name, device.profile


def _free(wanted: Wanted, kind: Sequence[Device], occupancy: Occupancy, gone: Collection[str] = ()) -> list[Device]:
    """Return the devices that can be granted once the units ``gone`` have ended."""
    return [device for device in kind if _fits(wanted, device, occupancy.on(device, wanted.unit), gone)]


def _soon(wanted: Wanted, kind: Sequence[Device], occupancy: Occupancy) -> bool:
    """Report whether enough devices can be granted once the units that are ending have gone."""
    kept = tuple(lease for lease in occupancy.leases if lease.unit not in occupancy.ending)
    if len(kept) == len(occupancy.leases):
        return False
    left = [_without(device, occupancy) for device in kind]
    return len(_free(wanted, left, replace(occupancy, leases=kept))) >= wanted.ask.count


def _without(device: Device, occupancy: Occupancy) -> Device:
    """Return a device as it will be when the units that are ending have gone, and their memory has come back."""
    ending = [lease for lease in occupancy.leases if lease.unit in occupancy.ending and device.uuid in lease.devices]
    own = sum(process.used_bytes for process in device.processes if process.unit in occupancy.ending)
    left = [each.unexplained[each.devices.index(device.uuid)] for each in ending if each.ended_at is not None]
    unexplained = min((device.unexplained_bytes, *left))
    return replace(
        device,
        processes=tuple(process for process in device.processes if process.unit not in occupancy.ending),
        used_bytes=device.used_bytes - own - (device.unexplained_bytes - unexplained),
    )


def _fits(wanted: Wanted, device: Device, holders: Sequence[Lease], gone: Collection[str] = ()) -> bool:
    """Report whether the device can be granted beside those of its holders that are not ``gone``.

    It cannot while the memory of an ended lease is not free yet.
    """
    staying = [h for h in holders if h.unit not in gone]
    if any(h.ended_at is not None for h in holders) or any(not h.reserve_bytes for h in staying):
        return False
    if staying and not wanted.reserve_bytes:
        return False
    need = wanted.reserve_bytes if staying else _alone(wanted, device)
    return _available(device, wanted.unit, holders, gone) >= need


def _alone(wanted: Wanted, device: Device) -> int:
    """Return the bytes that must be free for an app that has the device alone.

    Of a peak that takes nearly all of a device the headroom gives way: no device could offer it.
    """
    whole = device.total_bytes - spare(device)
    peak = wanted.reserve_bytes and wanted.peak_bytes
    return min(wanted.reserve_bytes or whole, max(peak, whole))


def spare(device: Device) -> int:
    """Return the bytes that programs that are not apps, and the driver, may use of a device that an app gets whole.

    A tenth of it, as vLLM takes nine tenths by default. On smaller devices 2 GiB, as a desktop with
    a browser may take that of any, but never more than a quarter.
    """
    return max(device.total_bytes // 10, min(_DESKTOP, device.total_bytes // 4))


def _available(device: Device, unit: str, holders: Sequence[Lease], gone: Collection[str] = ()) -> int:
    """Return the bytes that are left when every holder takes all that it may, and those ``gone`` nothing.

    Programs without a lease count with what they use now: no app that is put to sleep frees that.
    """
    used = {h.unit: sum(p.used_bytes for p in device.processes if p.unit == h.unit) for h in holders}
    foreign = sum(p.used_bytes for p in _foreign(device, unit, holders))
    reserved = sum(max(h.reserve_bytes or device.total_bytes, used[h.unit]) for h in holders if h.unit not in gone)
    return device.total_bytes - device.unexplained_bytes - foreign - reserved


def _foreign(device: Device, unit: str, holders: Sequence[Lease]) -> list[Process]:
    """Return the processes that are neither a holder's nor the unit's, the one that uses most first."""
    apps = {unit, *(h.unit for h in holders)}
    return sorted((p for p in device.processes if p.unit not in apps), key=lambda p: -p.used_bytes)


def _order(wanted: Wanted, occupancy: Occupancy):  # type: ignore[no-untyped-def]  # noqa: ANN202  a key for sorted()
    """Return a sort key: fewest holders first, then the tightest fit for a known need, the loosest for an unknown."""

    def key(device: Device) -> tuple[int, int, str]:
        holders = occupancy.on(device, wanted.unit)
        left = _available(device, wanted.unit, holders)
        return len(holders), left if wanted.reserve_bytes else -left, device.uuid

    return key


def _room(wanted: Wanted, kind: Sequence[Device], occupancy: Occupancy) -> tuple[str, ...]:
    """Return the best set of idle units that frees enough devices of one kind; () if there is none.

    All that it takes and no more: without any one of them the app would have to wait.
    """
    options = sorted(
        (option for device in kind if (option := _clear(wanted, device, occupancy)) is not None),
        key=lambda units: -min((occupancy.idle[unit] for unit in units), default=inf),
    )
    chosen = dict.fromkeys(unit for units in options[: wanted.ask.count] for unit in units)
    if len(options) < wanted.ask.count:
        return ()
    return _needed(chosen, occupancy, lambda gone: len(_free(wanted, kind, occupancy, gone)) >= wanted.ask.count)


def _clear(wanted: Wanted, device: Device, occupancy: Occupancy) -> tuple[str, ...] | None:
    """Return the idle units to put to sleep so that the device suffices, best first.

    ``None`` if that is not possible.
    """
    holders = occupancy.on(device, wanted.unit)
    idle = sorted((h.unit for h in holders if h.unit in occupancy.idle), key=lambda unit: -occupancy.idle[unit])
    for count in range(len(idle) + 1):
        if _fits(wanted, device, holders, idle[:count]):
            return _needed(idle[:count], occupancy, lambda gone: _fits(wanted, device, holders, gone))
    return None


def _needed(units: Iterable[str], occupancy: Occupancy, enough: Callable[[Collection[str]], bool]) -> tuple[str, ...]:
    """Return the units without those whose sleep is not needed, judged from the one that it is least good to take."""
    kept = list(units)
    for unit in sorted(kept, key=lambda each: occupancy.idle[each]):
        others = [each for each in kept if each != unit]
        if enough(others):
            kept = others
    return tuple(kept)


def _why(wanted: Wanted, suitable: Sequence[Device], occupancy: Occupancy) -> str:
    need = f", {human_bytes(wanted.reserve_bytes)} of it" if wanted.reserve_bytes else ""
    said = "; ".join(f"{describe(device)}, {_held(device, wanted, occupancy)}" for device in suitable)
    return f"needs {wanted.ask}{need}; {said}"


def _held(device: Device, wanted: Wanted, occupancy: Occupancy) -> str:
    holders = occupancy.on(device, wanted.unit)
    said = ["held by " + ", ".join(f"{h.app_id} ({_state(h, occupancy)})" for h in holders)] if holders else []
    if _crowded(wanted, device, holders):
        said.append(_crowd(device, wanted, holders))
    return ", ".join(said) or "not in use"


def _crowded(wanted: Wanted, device: Device, holders: Sequence[Lease]) -> bool:
    """Report whether programs that are not apps keep the app away even when no other app holds the device."""
    return _available(device, wanted.unit, holders, {h.unit for h in holders}) < _alone(wanted, device)


def _crowd(device: Device, wanted: Wanted, holders: Sequence[Lease]) -> str:
    foreign = _foreign(device, wanted.unit, holders)
    taken = human_bytes(device.unexplained_bytes + sum(p.used_bytes for p in foreign))
    most = f"{foreign[0].name}, process {foreign[0].pid}" if foreign else "the driver does not name them"
    limit = "" if wanted.reserve_bytes else f", at most {human_bytes(spare(device))} where an app needs a whole GPU"
    return f"{taken} used by programs that are not apps ({most}){limit}"


def _state(lease: Lease, occupancy: Occupancy) -> str:
    if lease.ended_at is not None:
        return "ended, its memory is not released yet"
    return "idle" if lease.unit in occupancy.idle else "busy"


def describe(device: Device) -> str:
    """Describe a device: ``GPU-1f3a0b2c… NVIDIA L40S, 44.2 of 45.0 GiB free``."""
    total = human_bytes(device.total_bytes)
    number, unit = total.rsplit(" ", 1)
    size = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[unit]
    return f"{short(device.uuid)} {device.name}, {device.free_bytes / size:.1f} of {number} {unit} free"


def short(uuid: str) -> str:
    """Return enough of a UUID to distinguish it: ``GPU-1f3a0b2c…``."""
    return f"{uuid[:12]}…" if len(uuid) > 13 else uuid
