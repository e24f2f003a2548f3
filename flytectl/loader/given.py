"""Gives parameters of apps the values of ``flytectl serve --parameter [APP:]NAME=VALUE``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .failure import LoadError
from .sdk import find

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .environments import Found

_OF_FILES = {"file": "File", "directory": "Dir"}


def give(chosen: Iterable[Found], given: list[str]) -> None:
    """Set the values in the environments.

    Without ``APP`` a value is for each app that has a parameter of this name. A value for a file or folder, an output
    of a run or an artifact is a path of this machine or an address of a storage; for an ``AppEndpoint`` an app's name.
    Raise LoadError("unsupported") for a text of another form, and for a parameter that no app has.
    """
    environments = [found.environment for found in chosen]
    for text in given:
        place, equals, value = text.partition("=")
        app, colon, name = place.rpartition(":")
        if not (equals and name) or (colon and not app):
            raise LoadError("unsupported", f"{text!r} is not a parameter with a value", hint="give [APP:]NAME=VALUE")
        fitting = [each for each in environments if not app or each.name == app]
        if not _set(fitting, name, value):
            known = [f"{each.name}:{one.name}" for each in environments for one in each.parameters]
            raise LoadError(
                "unsupported",
                f"no app of the file has a parameter {place!r}",
                hint=f"the file has: {', '.join(known) or 'no parameters'}",
            )


def _set(environments: list[Any], name: str, value: str) -> bool:
    found = False
    for environment in environments:
        changed = [replace(p, value=_value(p, value)) if p.name == name else p for p in environment.parameters]
        found = found or any(parameter.name == name for parameter in environment.parameters)
        environment.parameters = changed
    return found


def _value(parameter: Any, text: str) -> Any:
    kind = parameter.type or _kind(parameter.value)
    if kind in _OF_FILES:
        return find("flyte.io", _OF_FILES[kind])(path=text)
    if type(parameter.value).__name__ == "AppEndpoint":
        return find("flyte.app", "AppEndpoint")(app_name=text, public=parameter.value.public)
    return text


def _kind(value: Any) -> str:
    """Return the kind of value that a parameter had: "file", "directory", or "" for others."""
    names = {"File": "file", "Dir": "directory"}
    return names.get(type(value).__name__) or str(getattr(value, "type", "") or "")
