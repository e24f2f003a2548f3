"""Finds the apps that an app names to call them. Pure.

A name stands for the app of the same project and domain: Flyte's ``depends_on`` and ``AppEndpoint`` have no other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flyted.contract.names import printable

_PARAMETER = frozenset(("name", "value", "download", "type", "env_var", "dest", "ignore_patterns"))
_ENDPOINT = frozenset(("app_name", "public", "type"))
"""Fields of flyte/app/_parameter.py: ``SerializableParameter`` and ``AppEndpoint``."""


def all_of(names: Iterable[str], own: str) -> tuple[str, ...]:
    """Return each name once, in one order however they were found, without the app's own."""
    return tuple(sorted(set(names) - {own}))


def in_parameters(parameters: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the names of the apps whose address is a parameter (flyte/app/_parameter.py: ``AppEndpoint``)."""
    for parameter in parameters:
        if parameter.get("type") == "app_endpoint" and (name := _endpoint(parameter).get("app_name")):
            yield str(name)


def unsupported(parameters: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield why a parameter cannot be one, or the address of an app in it."""
    for parameter in parameters:
        kind, name = parameter.get("type", "string"), printable(parameter.get("name"))
        yield from _unknown(f"parameter {name}", parameter, _PARAMETER)
        if kind == "app_endpoint":
            other = _endpoint(parameter)
            yield from _unknown(f"the AppEndpoint of parameter {name}", other, _ENDPOINT)
            if not isinstance(other.get("app_name"), str) or not other["app_name"]:
                yield f"parameter {name} is not the address of an app"
            elif other.get("public"):
                yield f"parameter {name} is a public address of an app: leave public=True out"
        elif kind not in ("string", "file", "directory"):
            yield f"parameter {name} of type {printable(kind)}"


def _unknown(what: str, found: Mapping[str, Any], known: frozenset[str]) -> Iterator[str]:
    """Yield each field that a newer SDK has set. The SDK also writes those that are not: empty, or false."""
    for name in sorted(found.keys() - known):
        if found[name]:
            yield f"{what} has a field {printable(name)} that is not known to this version of flyted"


def _endpoint(parameter: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(parameter.get("value", ""))
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
