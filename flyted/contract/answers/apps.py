"""The answers about apps. Sizes are in bytes, times in seconds since 1970 (0: never), durations in seconds.

The order of the fields is the one of ``flytectl --json``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flyted.contract.answers.codec import WIRE_ONLY, Answer
from flyted.contract.status import AppState


@dataclass(frozen=True, slots=True)
class ImageStatus(Answer):
    """The image that an app runs in, or the environment that the user gave."""

    path: str  # its folder
    hash: str  # the digest of its recipe; "": an environment that the user gave
    python: str  # the version of its Python
    asked: str  # the version that the file asked for; "": any
    note: str  # why it is not the one that was asked for
    env: tuple[tuple[str, str], ...]  # variables that its layers set
    built_at: float  # 0: not built by flyted, or not known
    built: tuple[str, ...]  # packages built from source, as "name==version"
    digests: tuple[tuple[str, str], ...]  # container images that it is made from: name, digest of the manifest


@dataclass(frozen=True, slots=True)
class UnitStatus(Answer):
    """A unit of an app, in the words of systemd."""

    name: str
    active: str  # ActiveState
    sub: str  # SubState


@dataclass(frozen=True, slots=True)
class ReplicaStatus(Answer):
    """A replica of the serving revision."""

    number: int
    state: AppState
    reason: str  # why it is in that state; "": nothing is wrong
    since: float  # when it came into that state; 0: not known, or not asked for


@dataclass(frozen=True, slots=True)
class UsedSecret(Answer):
    """A secret of an app: given as a variable (``env``) or as a file (``file``), the other is empty."""

    key: str
    env: str
    file: str


@dataclass(frozen=True, slots=True)
class HeldGpu(Answer):
    """A GPU that an app holds."""

    uuid: str
    name: str
    revision: int  # of the app
    replica: int  # of the revision
    since: float


@dataclass(frozen=True, slots=True)
class GpuUse(Answer):
    """The GPUs that an app asks for and has."""

    count: int
    name: str  # words of the product's name; "": any product
    partition: str  # a MIG slice such as 1g.5gb; "": whole GPUs
    devices: tuple[HeldGpu, ...]
    peak_bytes: int  # the most memory of one device that it was seen to use; 0: not known
    load_s: float  # how long its last load took; 0: not known


@dataclass(frozen=True, slots=True)
class Requests(Answer):
    """Counters of the ingress for the serving revision."""

    in_flight: int  # requests that run or wait now
    total: int  # since the ingress started


@dataclass(frozen=True, slots=True)
class Failure(Answer):
    """A deploy that failed."""

    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class AppFolder(Answer):
    """The folder of an app's data, and how much is in it."""

    folder: str
    bytes: int
    files: int
    cache_bytes: int
    complete: bool  # false: there were too many files to count all in time


@dataclass(frozen=True, slots=True)
class AppStatus(Answer):
    """An app: its state, and the revision that serves (else the newest one)."""

    name: str
    project: str
    domain: str
    id: str  # what its host name and units are called
    url: str
    state: AppState
    reason: str  # why it is in that state; "": nothing is wrong
    revision: int  # the one that serves; 0: none has yet
    deployed_by: str  # the user's name at that time; "": not known
    wanted: str  # started or stopped
    created_at: float
    updated_at: float
    serving_since: float | None  # None: no revision has served yet
    image: ImageStatus | None  # None: it has no revision
    replicas: tuple[ReplicaStatus, ...]  # none while it is stopped
    units: tuple[UnitStatus, ...]
    secrets: tuple[UsedSecret, ...]
    min_replicas: int
    max_replicas: int
    concurrency: int  # the requests at once that one replica is for; 0: they do not count
    request_rate: int  # likewise the requests a second; if both are 0, the CPU time of its units counts
    sticky: bool  # the ingress sends a browser to the same replica again
    scaledown_after_s: float
    requests_per_s: float  # what one client may ask of it; 0: the setting of flyted.toml
    memory_bytes: int
    cpu_cores: float  # 0: no limit
    disk_bytes: int  # 0: none asked for
    shm_bytes: int  # size of its /dev/shm; 0: as large as its memory
    gpu: GpuUse | None  # None: it asks for none
    egress: bool  # it may make connections to other machines
    calls: tuple[str, ...]  # names of the apps, of its project and domain, that it may call
    callers: tuple[str, ...]  # names of those that may call it; of app get only
    port: int  # the TCP port that its program opens; 0: it serves on the inherited socket
    protocol: str  # what is spoken there: http1 or h2c
    ready_path: str  # the path that must answer before it gets requests; "": any answer will do
    start_timeout_s: float  # the longest that a start may take; 0: the setting of flyted.toml
    requires_auth: bool
    open_paths: tuple[str, ...] | None  # paths that the ingress lets through; None: all
    engine_sleep: int  # level of vLLM's sleep when it is idle; 0: its engine does not sleep
    idle: str  # what it does then: freeze or stop
    stop_after_s: float  # seconds after which a frozen app is stopped; 0: it is not
    models: tuple[tuple[str, str], ...]  # (name, folder)
    type: str
    description: str
    links: tuple[tuple[str, str], ...]  # (title, path)
    unmet: tuple[str, ...]  # what the file asks for and does not get, in words
    notes: tuple[str, ...]  # what the revision said at its first start
    requests: Requests | None  # None: no revision serves, or the ingress does not say
    last_failure: Failure | None  # None: the newest deploy did not fail
    data: AppFolder | None = None  # filled in from `app.data` by who asks for one app
    spec_digest: str = field(default="", metadata=WIRE_ONLY)  # AppSpec.digest() of that revision; "": it has none


@dataclass(frozen=True, slots=True)
class AppList(Answer):
    """The answer of `app.list`."""

    apps: tuple[AppStatus, ...]


@dataclass(frozen=True, slots=True)
class Described(Answer):
    """The answer of `app.get`."""

    app: AppStatus
    spec: dict[str, Any]  # what contract.app.from_dict reads, of the revision that ``app`` describes; {}: it has none


@dataclass(frozen=True, slots=True)
class Deployed(Answer):
    """The answer of `app.serve`."""

    app: AppStatus
    changed: bool  # false: the same revision served already


@dataclass(frozen=True, slots=True)
class Kept(Answer):
    """The answer of `app.data`: what is deleted with an app."""

    data: AppFolder | None  # None: it has none
    known: bool  # false: the app was deleted, and its data kept
    revisions: int
    tokens: int  # tokens that open this app alone
