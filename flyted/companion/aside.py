"""Stepping aside: whatever goes wrong in here, ``flyte`` goes on as if the companion were not installed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

_said: list[str] = []
"""The one warning of this process, once it was given."""


def step_aside(error: BaseException) -> None:
    """Says once per process that this SDK is not one that we know, and why."""
    if _said:
        return
    _said.append(f"{type(error).__name__}: {error}")
    say(
        f"flyted: this version of flyte ({_version()}) is unknown to flyted's companion ({_said[0]});"
        " flyte works as without it. An update may help: pip install --upgrade flyted"
    )


def _version() -> str:
    try:
        from importlib.metadata import version  # noqa: PLC0415  only when something is wrong

        return version("flyte")
    except Exception:  # noqa: BLE001  a warning must not fail
        return "unknown"


def harmless(function: Callable[..., None]) -> Callable[..., None]:
    """The same function, but its failures end in :func:`step_aside`."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  never break flyte
            step_aside(error)

    return guarded


def around(thing: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Puts ``make(old)`` in the place of an attribute. Raises AttributeError where the SDK has moved it."""
    setattr(thing, name, make(getattr(thing, name)))


def say(text: str, *, answer: bool = False) -> None:
    """Lines for people: on standard error as the SDK's own progress, an ``answer`` on standard output."""
    stream = sys.stdout if answer else sys.stderr
    line = "".join(c if c.isprintable() or c == "\n" else "?" for c in text) + "\n"
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        stream.write(line.encode(encoding, "replace").decode(encoding))  # a Latin-1 terminal has no rocket
        stream.flush()
    except (OSError, ValueError, LookupError):
        pass  # nobody reads it: no reason to end a deployment
