"""Reads Kubernetes quantities and protobuf durations as numbers; each function's name has the unit.

Source: Kubernetes' resource.Quantity (``500m``, ``1.5``, ``2Gi``, ``1e3``) and google.protobuf.Duration in JSON
(``"300s"``).
"""

from __future__ import annotations

import re

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable

CORES = (0.001, 4096.0)
BYTES = (1 << 20, 1 << 60)
"""The least and the most cores, and bytes of memory or disk, that an app may ask for."""
CORES_HINT = "ask for 1m to 4096 cores"
SIZE_HINT = "ask for 1Mi or more, such as '512Mi' or '4Gi'"

_THOUSANDS = {"k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_THOUSANDTHS = {"m": 1, "u": 2, "n": 3}
_FACTOR = {
    "": (1, 1),
    **{suffix: (1, 1000**power) for suffix, power in _THOUSANDTHS.items()},
    **{suffix: (1000**power, 1) for suffix, power in _THOUSANDS.items()},
    **{f"{suffix.upper()}i": (1024**power, 1) for suffix, power in _THOUSANDS.items()},
}
"""Suffix → numerator and denominator."""
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})((?:[eE][+-]?[0-9]{1,2})|[A-Za-z]{0,2})")
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)s")


def _parse(text: str, what: str) -> tuple[int, int]:
    """Return a quantity as numerator and denominator: exact, without the memory that ``decimal`` takes."""
    found = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if found is not None:
        number, suffix = found.groups()
        whole, _, fraction = number.partition(".")
        numerator, denominator = int(whole + fraction), 10 ** len(fraction)
        if suffix in _FACTOR:
            more, less = _FACTOR[suffix]
            return numerator * more, denominator * less
        if suffix[0] in "eE" and len(suffix) > 1:
            power = int(suffix[1:])
            return numerator * 10 ** max(power, 0), denominator * 10 ** max(-power, 0)
    raise InvalidInput(f"{what} {printable(text)} is not a quantity", hint="write it as '500m', '2', '512Mi' or '4Gi'")


def cpu_cores(text: str) -> float:
    """Read a quantity of CPU in cores: ``"500m"`` → 0.5.

    Raise :class:`InvalidInput` for text that is no quantity, and outside 0.001..4096.
    """
    numerator, denominator = _parse(text, "cpu")
    cores = numerator / denominator
    if not CORES[0] <= cores <= CORES[1]:
        raise InvalidInput(f"cpu {printable(text)} is out of range", hint=CORES_HINT)
    return cores


def memory_bytes(text: str, what: str = "memory") -> int:
    """Read a quantity of memory or disk in bytes: ``"512Mi"`` → 536870912. ``what`` names it in messages.

    Raise :class:`InvalidInput` for text that is no quantity, and below 1 MiB or above 1 EiB.
    """
    numerator, denominator = _parse(text, what)
    size = numerator // denominator
    if not BYTES[0] <= size <= BYTES[1]:
        raise InvalidInput(f"{what} {printable(text)} is out of range", hint=SIZE_HINT)
    return size


def exceeds(one: str, other: str, what: str) -> bool:
    """Report whether a quantity is larger than another. Raise :class:`InvalidInput` for text that is no quantity.

    ``what`` names them in messages.
    """
    (numerator, denominator), (most, parts) = _parse(one, what), _parse(other, what)
    return numerator * parts > most * denominator


def duration_s(text: str, what: str = "duration") -> float:
    """Read a protobuf-JSON duration in seconds: ``"300s"`` → 300.0. ``what`` names it in messages.

    Raise :class:`InvalidInput` for other text, and for less than nothing.
    """
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidInput(f"{what} {printable(text)} is not valid", hint="give seconds, 0 or more")
    return float(found[1])


def human_bytes(size: int) -> str:
    """Return a size in bytes as text for people: 536870912 → ``512.0 MiB``."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
