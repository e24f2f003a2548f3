"""Decides whether a GPU satisfies an app's request, and explains with figures why none does. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from flyted.contract.gpu import Ask, gigabytes, words
from flyted.contract.quantity import human_bytes
from flyted.plan.gpus.facts import Device, Inventory

_VARIANT = frozenset({"TI", "SUPER", "D", "VWS"})
"""Words that, after the number, make it another product: an RTX 4080 is not an RTX 4080 SUPER."""
_ROOM = (0.85, 1.12)
"""The least and the most memory of a product, as a share of the size in its name.

NVML reports 79.6 to 81.9 GiB for a board of "80GB", 39.4 to 40.5 for one of "40GB".
"""


def is_product(asked: str, name: str, total_bytes: int) -> bool:
    """Report whether the product ``name``, with ``total_bytes`` of memory, is the one ``asked`` for.

    Whole words are compared: L4 is not L40S.
    """
    wanted, have = words(asked), words(name)
    sizes = [w for w in wanted if gigabytes(w)]
    model = tuple(w for w in wanted if not gigabytes(w))
    if not all(_has_size(size, have, total_bytes) for size in sizes):
        return False
    for start in range(len(have) - len(model) + 1):
        if have[start : start + len(model)] == model:
            after = have[start + len(model) : start + len(model) + 1]
            return not (after and after[0] in _VARIANT)
    return False


def _has_size(size: str, have: tuple[str, ...], total_bytes: int) -> bool:
    if any(gigabytes(word) for word in have):
        return size in have
    ratio = total_bytes / (gigabytes(size) << 30)
    return _ROOM[0] <= ratio <= _ROOM[1]


def grantable(ask: Ask, inventory: Inventory) -> list[Device]:
    """Return the devices that suit the ask, used or not, without broken ones."""
    found = []
    for gpu in inventory.devices:
        if gpu.error or not is_product(ask.name, gpu.name, gpu.total_bytes):
            continue
        if ask.partition:
            found += [p for p in gpu.partitions if p.profile == ask.partition and not p.error]
        elif not gpu.split:
            found.append(gpu)
    return found


def impossible(ask: Ask, inventory: Inventory) -> str:
    """Return why this machine, as it is now, cannot satisfy the ask even with all its GPUs free; "" if it can."""
    found = grantable(ask, inventory)
    if ask.count and len(_biggest_kind(found)) >= ask.count:
        return ""
    if inventory.reason:
        return f"needs {ask}; this machine has none: {inventory.reason}"
    if not inventory.devices:
        return f"needs {ask}; this machine has none: its driver {inventory.driver} finds no GPU"
    have = f"has {len(found)}" if found else "has none"
    return f"needs {ask}; this machine {have}: {inventory_text(inventory.devices)}"


def _biggest_kind(devices: Iterable[Device]) -> list[Device]:
    """Return the largest group of devices of one product: several GPUs of one app must be of one product."""
    kinds: dict[str, list[Device]] = {}
    for device in devices:
        kinds.setdefault(device.name, []).append(device)
    return max(kinds.values(), key=len, default=[])


def inventory_text(devices: Iterable[Device]) -> str:
    """Describe the devices: ``2 × NVIDIA L40S (45.0 GiB), 1 × Tesla T4 (15.0 GiB; lost: …)``."""
    counted = Counter(_text(device) for device in devices)
    return ", ".join(f"{count} × {text}" for text, count in counted.items())


def _text(device: Device) -> str:
    notes = [human_bytes(device.total_bytes)]
    if device.split:
        parts = Counter(p.profile + (f" ({p.error})" if p.error else "") for p in device.partitions)
        notes.append("split into " + (", ".join(f"{n} × {p}" for p, n in parts.items()) or "no partitions"))
    if device.error:
        notes.append(device.error)
    return f"{device.name} ({'; '.join(notes)})"
