"""The answers about models: names that stand for folders of this machine."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.answers.codec import Answer


@dataclass(frozen=True, slots=True)
class ModelStatus(Answer):
    """A model."""

    name: str
    folder: str
    bytes: int  # size of its files; 0: they cannot be used
    problem: str  # why apps cannot use it; "": they can
    added_at: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class ModelList(Answer):
    """The answer of `model.list`."""

    models: tuple[ModelStatus, ...]
