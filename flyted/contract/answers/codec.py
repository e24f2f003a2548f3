"""Derives the wire and the JSON form of an answer from the fields of its class. Pure.

An answer is a frozen dataclass below :class:`Answer`. A field is named in its class, where the daemon fills it in, and
where it is shown; nothing else lists it. Its type is ``str``, ``int``, ``float``, ``bool``, an enumeration of texts,
another answer, ``dict[str, Any]``, a tuple of these, or one of these ``| None``.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from flyted.contract.errors import ProtocolMismatch

WIRE_ONLY: Mapping[str, bool] = types.MappingProxyType({"json": False})
"""Metadata of a field that programs of flyted read and ``flytectl --json`` does not print."""


class Answer:
    """The base of all answers: a class that the daemon encodes and a client decodes."""

    __slots__ = ()


Kind = TypeVar("Kind", bound=Answer)
_Read = Callable[[object], Any]


class _Wrong(Exception):
    """A value of another type than the field's; the text says what was expected and what came."""


def to_wire(answer: object) -> dict[str, Any]:
    """Return the fields of an answer, one level deep: the encoder calls this again for answers inside it.

    Raise TypeError for anything else, as an encoder's hook has to.
    """
    if not isinstance(answer, Answer):
        raise TypeError(f"{type(answer).__name__} is not an answer")
    return {name: getattr(answer, name) for name in _names(cast("Any", type(answer)))}


def json_fields(kind: type[Answer]) -> tuple[str, ...]:
    """Return the names that an answer of this kind has in JSON, in the order in which they are printed."""
    return tuple(f.name for f in dataclasses.fields(cast("Any", kind)) if f.metadata.get("json", True))


def from_wire(kind: type[Kind], data: object) -> Kind:
    """Return the answer that ``data``, a decoded map, holds.

    Fields of a newer daemon, which ``kind`` does not have, are ignored; a missing field has its default. Raise
    :class:`ProtocolMismatch`, which names the field, for a missing one without a default and for a value of another
    type.
    """
    if not isinstance(data, dict):
        raise _mismatch(kind.__name__, f"a map is expected, not {_told(data)}")
    values = {}
    for name, required, read in _readers(cast("Any", kind)):
        if name in data:
            try:
                values[name] = read(data[name])
            except _Wrong as error:
                raise _mismatch(f"{kind.__name__}.{name}", str(error)) from None
        elif required:
            raise _mismatch(f"{kind.__name__}.{name}", "it is missing")
    return kind(**values)


def _mismatch(what: str, why: str) -> ProtocolMismatch:
    return ProtocolMismatch(
        f"the daemon's answer cannot be read: {what}: {why}", hint="install flytectl and flyted of the same version"
    )


@functools.cache
def _names(kind: type[Answer]) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cast("Any", kind)))


@functools.cache
def _readers(kind: type[Answer]) -> tuple[tuple[str, bool, _Read], ...]:
    """Return, for each field: its name, whether it has no default, and the function that reads its value."""
    hints = get_type_hints(kind)
    return tuple(
        (
            f.name,
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
            _reader(hints[f.name]),
        )
        for f in dataclasses.fields(cast("Any", kind))
    )


def _reader(hint: Any) -> _Read:
    """Return the function that reads a value of a type. Raise TypeError for a type that no answer may have."""
    found, words = get_origin(hint), get_args(hint)
    if found is types.UnionType:
        (wanted,) = (word for word in words if word is not type(None))
        return functools.partial(_optional, _reader(wanted))
    if found is tuple and words == (str, ...):
        return _texts
    if found is tuple and words[-1] is ...:
        return functools.partial(_list, _reader(words[0]))
    if found is tuple:
        return functools.partial(_row, [_reader(word) for word in words])
    if found is dict:
        return functools.partial(_plain, dict)
    if hint is float:
        return _number
    if isinstance(hint, type) and issubclass(hint, Answer):
        return functools.partial(from_wire, hint)
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
        return functools.partial(_word, hint)
    if hint in (str, int, bool):
        return functools.partial(_plain, hint)
    raise TypeError(f"an answer cannot have a field of type {hint}")


def _plain(kind: type, value: object) -> object:
    if type(value) is not kind:
        raise _Wrong(f"{kind.__name__} is expected, not {_told(value)}")
    return value


def _number(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise _Wrong(f"a number is expected, not {_told(value)}")
    return float(value)


def _word(kind: type[enum.StrEnum], value: object) -> enum.StrEnum:
    try:
        return kind(cast("str", value))
    except ValueError:
        raise _Wrong(f"{value!a} is not a known value") from None


def _optional(read: _Read, value: object) -> object:
    return None if value is None else read(value)


def _list(read: _Read, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _Wrong(f"a list is expected, not {_told(value)}")
    return tuple(read(each) for each in value)


def _texts(value: object) -> tuple[str, ...]:
    """Do what :func:`_list` does for texts, in one step: a list of images has tens of thousands."""
    if isinstance(value, list) and all(type(each) is str for each in value):
        return tuple(value)
    return _list(functools.partial(_plain, str), value)


def _row(reads: list[_Read], value: object) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) != len(reads):
        raise _Wrong(f"a list of {len(reads)} is expected, not {_told(value)}")
    return tuple(read(each) for read, each in zip(reads, value, strict=True))


def _told(value: object) -> str:
    return "null" if value is None else type(value).__name__
