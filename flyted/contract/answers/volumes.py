"""The answers about volumes: folders of the operator that apps may be given."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.answers.codec import Answer


@dataclass(frozen=True, slots=True)
class VolumeStatus(Answer):
    """A volume."""

    name: str
    folder: str
    read_only: bool  # apps may not write to it, whatever they ask for
    problem: str  # why apps cannot use it; "": they can
    apps: tuple[str, ...]  # that have it
    added_at: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class VolumeList(Answer):
    """The answer of `volume.list`."""

    volumes: tuple[VolumeStatus, ...]
