"""Reads parts that all ImageSpecs have in common: lists, unknown fields, the order of variables, the Python. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from flyted.contract.app import MAX_LAYERS
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import printable, shortened

Layer = tuple[str, str, Mapping[str, Any]]
"""Its place in the image, for people; its kind; its content."""

_PYTHON = re.compile(r"3\.\d{1,2}")
VARIABLE = re.compile(r"\\\$|\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>[A-Za-z_][A-Za-z0-9_]*))")
"""A variable in a value, or an escaped dollar sign."""


def defined_first(values: Mapping[str, str], where: str) -> list[str]:
    """Return the names of a layer's variables, each after the others that its value names.

    Flyte's builder writes one ENV line for each, in the order of the file (docker_builder.py, EnvHandler). In an
    ImageSpec they are a map, which has no order; a file that uses what it defined before means this one.

    Raises :class:`Unsupported` for variables that refer to each other.
    """
    uses = {name: [use for use in named_in(values[name]) if use in values and use != name] for name in values}
    try:
        return list(TopologicalSorter(uses).static_order())
    except CycleError as error:
        names = shortened(", ".join(f"'{name}'" for name in sorted(set(error.args[1]))))
        raise Unsupported(
            f"{where}: variables {names} refer to each other, and the SDK does not send their order",
            hint="set them in separate calls of with_env_vars()",
        ) from error


def named_in(value: str) -> list[str]:
    """Return the names of the variables in a value, in order."""
    return [found["braced"] or found["plain"] for found in VARIABLE.finditer(value) if found[0] != "\\$"]


def only_known(body: Mapping[str, Any], names: set[str], where: str) -> None:
    """Raise :class:`Unsupported` for a field that is not among ``names``: it is never ignored."""
    unknown = sorted(str(name) for name in body if name not in names)
    if unknown:
        raise Unsupported(
            f"{where}: field {printable(unknown[0])} is not supported", hint="remove it, or update flyted"
        )


def listed(value: object, where: str) -> list[Any]:
    """Return a list; None is an empty one. Raises :class:`InvalidInput` for any other value."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidInput(f"{where} must be a list")
    return value


def python_of(version: object) -> str:
    """Return the Python version that an ImageSpec asks for, "" if for none. Raises :class:`InvalidInput`."""
    if version in (None, ""):
        return ""
    if not isinstance(version, str) or _PYTHON.fullmatch(version) is None:
        raise InvalidInput(
            f"Python version {printable(version)} of the image is not valid", hint="use a tuple such as (3, 12)"
        )
    return version


def layers_in(spec: Mapping[str, Any]) -> list[Layer]:
    """Return the layers of an ImageSpec. Raises :class:`InvalidInput` for what is no list of layers."""
    layers = spec.get("layers") or []
    if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        raise InvalidInput(f"the image's layers must be a list of at most {MAX_LAYERS}")
    return [_layer(layer, number) for number, layer in enumerate(layers, 1)]


def texts_of(files: object) -> Mapping[str, str]:
    """Return the content of the requirements files by name. Raises :class:`InvalidInput` for what is no map."""
    if not isinstance(files, Mapping):
        raise InvalidInput("the image's requirements files must be a map of names to their content")
    return files


def _layer(layer: object, number: int) -> Layer:
    if not isinstance(layer, Mapping) or len(layer) != 1:
        raise InvalidInput(f"layer {number} of the image must have exactly one kind")
    kind, body = next(iter(layer.items()))
    if not isinstance(body, Mapping):
        raise InvalidInput(f"layer {number} of the image: {printable(kind)} must be a map")
    return f"layer {number} of the image", str(kind), body
