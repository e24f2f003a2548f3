"""Formats times, in the two forms that ``flytectl`` prints: RFC 3339 in UTC for programs, local time for people."""

from __future__ import annotations

import time
from typing import Any

from flyted.contract.answers.codec import Answer, json_fields

_STEPS = ((86400 * 2, 86400, "d"), (3600 * 2, 3600, "h"), (60 * 2, 60, "min"), (0, 1, "s"))


def utc(microseconds: float) -> str:
    """Return microseconds since 1970 as ``2026-11-29T18:40:07.123456Z``, the one form of a time in JSON.

    Raise ValueError if that is out of range.
    """
    seconds, fraction = divmod(round(microseconds), 1_000_000)
    try:
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:06d}Z"
    except (OverflowError, OSError) as error:
        raise ValueError(str(microseconds)) from error


def for_json(value: Any, name: str = "") -> Any:
    """Return a value as JSON has it: answers as maps, and every time, at any depth, in the form of :func:`utc`.

    The daemon's times are seconds since 1970 in fields called ``…_at``, ``…_since`` and ``since``, where 0 means
    never, and microseconds in ``time``, a field of log lines. Never, and a time that is out of range, become null.
    """
    if isinstance(value, dict):
        return {key: for_json(each, key) for key, each in value.items()}
    if isinstance(value, Answer):
        return {key: for_json(getattr(value, key), key) for key in json_fields(type(value))}
    if isinstance(value, (list, tuple)):
        return [for_json(each) for each in value]
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return value
    unit = 1 if name == "time" else 1_000_000 if name == "since" or name.endswith(("_at", "_since")) else 0
    try:
        return utc(value * unit) if unit and (value or unit == 1) else None if unit else value
    except (ValueError, OverflowError):
        return None


def local(seconds: float) -> str:
    """Return seconds since 1970 as ``2026-11-29T18:40:07+01:00``; the number itself if it is out of range."""
    return _local(seconds) or str(seconds)


def _local(seconds: float) -> str:
    try:
        text = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return ""
    return f"{text[:-2]}:{text[-2:]}"


def span(seconds: float) -> str:
    """Return a duration in its largest unit: ``45 s``, ``5 min``, ``3 h``, ``12 d``."""
    return next(f"{int(seconds // unit)} {word}" for least, unit, word in _STEPS if seconds >= least)


def day(seconds: float) -> str:
    """Return seconds since 1970 as ``2026-11-29``, in UTC; "" for 0."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds)) if seconds else ""


def clock(seconds: float) -> str:
    """Return a running duration as ``45 s`` or ``1:15 min``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes else f"{rest} s"


def relative(seconds: float, now: float) -> str:
    """Return a time relative to ``now``: ``5 min ago``, ``in 3 h``."""
    return f"{span(now - seconds)} ago" if seconds <= now else f"in {span(seconds - now)}"


def for_people(seconds: float) -> str:
    """Return a time for people: local time, and how far from now; the number itself if it is out of range."""
    text = _local(seconds)
    return f"{text} ({relative(seconds, time.time())})" if text else str(seconds)
