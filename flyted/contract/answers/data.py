"""The answers about the data of apps. Sizes are in bytes, times in seconds since 1970 (0: never)."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.answers.codec import Answer


@dataclass(frozen=True, slots=True)
class DataFolder(Answer):
    """The data of an app, or of one that was deleted."""

    name: str
    project: str
    domain: str
    id: str  # of the app: its folder is called by it
    known: bool  # false: the app was deleted
    owner: str  # the user who deployed it, and who may export and import it besides root; "": not known
    folder: str
    bytes: int
    files: int
    cache_bytes: int
    complete: bool  # false: there was no time to count all
    disk_bytes: int  # what the app asks for (resources.disk); 0: nothing
    deleted_at: float  # 0: it was not, or it is not known when


@dataclass(frozen=True, slots=True)
class DataList(Answer):
    """The answer of `data.list`."""

    folders: tuple[DataFolder, ...]


@dataclass(frozen=True, slots=True)
class Exported(Answer):
    """The answer of `data.export`, after the archive is written."""

    files: int
    bytes: int
    left_out: int  # sockets, pipes and devices
    changed: bool  # files changed while they were read


@dataclass(frozen=True, slots=True)
class Imported(Answer):
    """The answer of `data.import`, after the archive has replaced what was there."""

    files: int
    bytes: int
    left_out: int  # links that lead out of the data, if that was asked for
