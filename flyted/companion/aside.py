"""Disables the companion when something in it fails: ``flyte`` then works as if it were not installed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

_said: list[str] = []
"""The one warning that this process has given; empty before that."""


def step_aside(error: BaseException) -> None:
    """Warn, once per process, that the companion does not know this version of the SDK, and why."""
    if _said:
        return
    _said.append(f"{type(error).__name__}: {error}")
    say(
        f"flyted: flyted's companion does not know this version of flyte ({_version()}; {_said[0]}) and is off:"
        " flyte works as if it were not installed. To update it: pip install --upgrade flyted"
    )


def _version() -> str:
    try:
        from importlib.metadata import version  # noqa: PLC0415  only when something is wrong

        return version("flyte")
    except Exception:  # noqa: BLE001  a warning must not fail
        return "unknown"


def harmless(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function that does the same, and hands any exception to :func:`step_aside` instead of raising it."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  never break flyte
            step_aside(error)

    return guarded


def around(thing: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace the attribute ``name`` of ``thing`` by ``make(old)``. Raise AttributeError if the SDK has moved it."""
    setattr(thing, name, make(getattr(thing, name)))


def say(text: str, *, answer: bool = False) -> None:
    """Print text for people: on standard error as the SDK's own progress, an ``answer`` on standard output.

    Characters that cannot be printed become "?". A stream that is closed is no error.
    """
    stream = sys.stdout if answer else sys.stderr
    line = "".join(c if c.isprintable() or c == "\n" else "?" for c in text) + "\n"
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        stream.write(line.encode(encoding, "replace").decode(encoding))  # a Latin-1 terminal cannot show emoji
        stream.flush()
    except (OSError, ValueError, LookupError):
        pass  # a deployment does not fail because its progress is not read
