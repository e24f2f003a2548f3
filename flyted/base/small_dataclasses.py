"""Has data classes share methods that ``dataclasses`` generates for each of them: 1.7 MiB of the daemon's memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import Any

_generate = dataclasses.dataclass


def share() -> None:
    """Have all classes that are defined from now on share comparison, hash, ``__repr__``, and the refusal of changes.

    They behave as the generated ones, except that a class derived from a frozen one, without being a data class
    itself, has no attributes of its own. What the class defines itself is kept. The methods of an ordered class that
    compare it are generated: there are few.
    """
    dataclasses.dataclass = _dataclass


def _dataclass(cls: Any = None, /, **options: Any) -> Any:
    def made(cls: Any) -> Any:
        shown = options.get("repr", True) and "__repr__" not in vars(cls)
        compared = options.get("eq", True) and not any(map(options.get, ("order", "unsafe_hash")))
        own = {name for name in ("__eq__", "__hash__") if vars(cls).get(name)}
        found = _generate(cls, **options | {"repr": False} | ({"eq": False} if compared else {}))
        if shown:
            found.__repr__ = _repr
        if options.get("frozen"):
            found.__setattr__, found.__delattr__ = _refuse_assignment, _refuse_deletion
        if compared:
            _compare(found, own)
        return found

    return made if cls is None else made(cls)


def _compare(cls: Any, own: set[str]) -> None:
    """Give ``cls`` the comparison of its fields, and their hash if it is frozen (the table of ``unsafe_hash``)."""
    fields = dataclasses.fields(cls)
    compared = tuple(field.name for field in fields if field.compare)
    hashed = tuple(field.name for field in fields if (field.compare if field.hash is None else field.hash))
    cls._compared = cls._hashed = staticmethod(_values(compared))
    if hashed != compared:
        cls._hashed = staticmethod(_values(hashed))
    if "__eq__" not in own:
        cls.__eq__ = _eq
    if "__hash__" not in own:
        cls.__hash__ = _hash if cls.__dataclass_params__.frozen else None


def _values(names: tuple[str, ...]) -> Callable[[Any], Any]:
    """Return what reads these attributes: a tuple of several."""
    return attrgetter(*names) if names else _no_values


def _no_values(_self: object) -> tuple[()]:
    return ()


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self._compared(self) == self._compared(other)


def _hash(self: Any) -> int:
    return hash(self._hashed(self))


def _repr(self: Any) -> str:
    shown = (field.name for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _refuse_assignment(_self: object, name: str, _value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(_self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
