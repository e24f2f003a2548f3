"""Reads from a container image's config how its program is run. Pure.

Source: the OCI image specification, config.md. The texts come from a stranger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyted.contract.app import MAX_ENV
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import printable
from flyted.contract.texts import MAX_TEXT
from flyted.plan.images.root import ImageConfig
from flyted.plan.images.text import is_text

MAX_LISTED = 256
"""Ports, volumes, words of a command."""


def image_config(reference: str, body: object) -> ImageConfig:
    """Return how the program of a pulled image is run. ``body``: what ``config`` is in the image's config.

    Raises :class:`InvalidInput` for what is not of the form that the specification gives, :class:`Unsupported` for an
    image that runs further instructions when others build upon it.
    """
    body = _map(body, reference, "the config")
    if body.get("OnBuild"):
        raise Unsupported(
            f"base image {printable(reference)} runs further instructions in images based on it (ONBUILD)",
            hint="use another tag of it",
        )
    env = []
    for each in _texts(body.get("Env"), reference, "Env"):
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise _bad(reference, "Env")
        env.append((name, value))
    return ImageConfig(
        tuple(dict(env).items()),
        _name(body.get("User") or "", reference, "User"),
        _name(body.get("WorkingDir") or "", reference, "WorkingDir"),
        _texts(body.get("Entrypoint"), reference, "Entrypoint"),
        _texts(body.get("Cmd"), reference, "Cmd"),
        _keys(body.get("ExposedPorts"), reference, "ExposedPorts"),
        _keys(body.get("Volumes"), reference, "Volumes"),
    )


def _keys(value: object, reference: str, what: str) -> tuple[str, ...]:
    keys = _list(list(_map(value, reference, what)), reference, what)
    return tuple(sorted(_name(each, reference, what) for each in keys))


def _texts(value: object, reference: str, what: str) -> tuple[str, ...]:
    return tuple(_text(each, reference, what) for each in _list(value, reference, what))


def _list(value: object, reference: str, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > max(MAX_LISTED, MAX_ENV):
        raise _bad(reference, what)
    return value


def _map(value: object, reference: str, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _bad(reference, what)
    return value


def _name(value: object, reference: str, what: str) -> str:
    """Return a text that people are shown, in one line."""
    text = _text(value, reference, what)
    if not text.isprintable():
        raise _bad(reference, what)
    return text


def _text(value: object, reference: str, what: str) -> str:
    """Return a text that a program can be given."""
    if not isinstance(value, str) or len(value) > MAX_TEXT or not is_text(value):
        raise _bad(reference, what)
    return value


def _bad(reference: str, what: str) -> InvalidInput:
    return InvalidInput(f"base image {printable(reference)} is not usable: {what} is not valid")
