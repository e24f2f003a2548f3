"""``$NAME`` among an app's arguments, as Flyte expands it, but without its shell.

Flyte's fserve expands an argument that *starts* with ``$``, taking the whole rest for the name, joins everything
unquoted and hands it to ``sh -c``. Here each argument stays one argument, whatever its value holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .refused import Refused


def expand(args: list[str], environ: Mapping[str, str]) -> list[str]:
    """Replaces each ``$NAME`` argument by the variable's value; ``Refused`` if there is no such variable."""
    return [_value(arg[1:], environ) if arg.startswith("$") else arg for arg in args]


def secrets_in(args: list[str], secrets: Collection[str]) -> list[str]:
    """The secrets' variables that the arguments name."""
    return [arg[1:] for arg in args if arg.startswith("$") and arg[1:] in secrets]


def _value(name: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name)
    if value is None:
        raise Refused(f"argument ${name}: the app has no secret or variable named {name!a}")
    return value
