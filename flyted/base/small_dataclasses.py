"""Has data classes share methods that ``dataclasses`` generates for each of them: 1.3 MiB of the daemon's memory."""

from __future__ import annotations

import dataclasses
from typing import Any

_generate = dataclasses.dataclass


def share() -> None:
    """Have all classes that are defined from now on share ``__repr__``, ``__setattr__`` and ``__delattr__``.

    They behave as the generated ones, except that a class derived from a frozen one, without being a data class
    itself, has no attributes of its own. What the class defines itself is kept.
    """
    dataclasses.dataclass = _dataclass


def _dataclass(cls: Any = None, /, **options: Any) -> Any:
    def made(cls: Any) -> Any:
        shown = options.get("repr", True) and "__repr__" not in vars(cls)
        found = _generate(cls, **options | {"repr": False})
        if shown:
            found.__repr__ = _repr
        if options.get("frozen"):
            found.__setattr__, found.__delattr__ = _refuse_assignment, _refuse_deletion
        return found

    return made if cls is None else made(cls)


def _repr(self: Any) -> str:
    shown = (field.name for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _refuse_assignment(_self: object, name: str, _value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(_self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
