"""Defines options that several commands share, and writes to the standard streams."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _scope(function: Decorated, project: str, domain: str, unset: str) -> Decorated:
    said = {"project": project or unset, "domain": domain or unset}
    for name, default in (("domain", domain), ("project", project)):
        function = click.option(
            f"-{name[0]}", f"--{name}", default=default, metavar=name.upper(), help=f"Flyte {name} [{said[name]}]."
        )(function)
    return function


def app_scope(function: Decorated) -> Decorated:
    """Add ``--project`` and ``--domain`` of an app, with Flyte's defaults."""
    return _scope(function, "default", "development", "")


def secret_scope(function: Decorated) -> Decorated:
    """Add ``--project`` and ``--domain`` of a secret; without both it is the whole machine's, as with ``flyte``."""
    return _scope(function, "", "", "none: the whole machine")


def as_json(function: Decorated) -> Decorated:
    """Add ``--json``: print the answer as JSON on standard output."""
    return click.option("--json", "json_", is_flag=True, help="Print JSON.")(function)


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def period(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    """Return the seconds of a period such as 90d; raise BadParameter for any other text."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhdw])", value, re.ASCII)
    if found is None:
        raise click.BadParameter(f"{value!r} is not a period: write 90d, 12h, 30m, 45s or 2w")
    return int(found[1]) * _SECONDS[found[2]]


def has_colour(stream: TextIO) -> bool:
    """Report whether ``stream`` shows colour: a terminal, not a dumb one, without ``NO_COLOR`` (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Write a line to standard error: progress, hints, notes."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def report(code: str, message: str, hint: str, status: int, *, as_json: bool) -> int:
    """Write an error to standard error, and return ``status``, the exit status that it has."""
    from flytectl.render import error_json, error_text  # noqa: PLC0415  only where something failed

    say(error_json(code, message, hint) if as_json else error_text(message, hint))
    return status


def no_core_dump() -> None:
    """Forbid a core file of this process, which will hold a secret or token, whatever the user's limits are."""
    import resource  # noqa: PLC0415  few commands need it

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def out(text: str) -> None:
    """Write a line (or block) of the answer to standard output, and flush: a follower may be reading."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
