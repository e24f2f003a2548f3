"""The answers about the machine's GPUs. Sizes are in bytes, times in seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.answers.codec import Answer


@dataclass(frozen=True, slots=True)
class LeaseStatus(Answer):
    """An app's lease of a device, from its start until its memory is back."""

    app: str  # the app's name; its id, if it was deleted
    project: str
    domain: str
    revision: int
    replica: int
    since: float
    used_bytes: int  # of this device; once the lease has ended, what has not come back yet
    reserved_bytes: int
    ended_at: float | None  # None: it lasts


@dataclass(frozen=True, slots=True)
class ProcessStatus(Answer):
    """A process that uses a device."""

    pid: int
    name: str
    unit: str  # the systemd unit that it runs in; "": none
    used_bytes: int


@dataclass(frozen=True, slots=True)
class GpuStatus(Answer):
    """A GPU, or a partition (MIG) of one."""

    uuid: str
    name: str
    minor: int  # the N of /dev/nvidiaN
    state: str  # free, held, returning (its memory is not back), split (into partitions) or broken
    error: str  # why it is broken; "": it is not
    memory_bytes: int
    used_bytes: int
    free_bytes: int
    holders: tuple[LeaseStatus, ...]
    processes: tuple[ProcessStatus, ...]
    partitions: tuple[GpuStatus, ...]


@dataclass(frozen=True, slots=True)
class GpuWait(Answer):
    """A unit that waits for a GPU."""

    unit: str
    why: str


@dataclass(frozen=True, slots=True)
class GpuList(Answer):
    """The answer of `gpu.list`."""

    driver: str
    cuda: str
    reason: str  # why there is no GPU; "": there are some
    gpus: tuple[GpuStatus, ...]
    waiting: tuple[GpuWait, ...]
