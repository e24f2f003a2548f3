"""Defines the facts from host and store: frozen values, the only input of every decision. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

from flyted.contract.app import AppSpec
from flyted.contract.names import AppKey, Replica
from flyted.plan.engines.shape import Shape, open_paths, shape_of
from flyted.plan.freeze import FreezeRules
from flyted.plan.gpus.facts import GpuFacts
from flyted.plan.idle import Traffic
from flyted.plan.ingress.sites import Site
from flyted.plan.ingress.state import Listen
from flyted.plan.scaling import Scale
from flyted.plan.unit_index import UnitFact, UnitIndex, indexed
from flyted.plan.upkeep_facts import UpkeepFacts


@dataclass(frozen=True)
class Capacity:
    """The resources that the machine has for all its apps together."""

    memory_bytes: int
    cpu_cores: int


@dataclass(frozen=True)
class Platform:
    """What the view of an app depends on: the processor, as uname(1) names it, and the kernel's version.

    ``data``: whether the machine has nothing at ``/data``, or an empty folder.
    """

    architecture: str = "x86_64"
    kernel: tuple[int, int] = (6, 12)
    data: bool = False


class Place(Enum):
    """What is at a path of an image. The values are for people."""

    NOTHING = "nothing"
    FOLDER = "a folder"
    FILE = "a file or a link"
    LOOP = "a link without end"


@dataclass(frozen=True)
class RootFact:
    """The root of an image that has more than a Python environment: its layers, and what its config says.

    ``layers``: their ids, lowest first. ``python``: the path, in the root, of a Python that launch can run on (3.10 or
    newer); "" if there is none. ``workdir`` and ``volumes``: as in an OCI image's config; ``volumes`` also has the
    folders that belong to the image's user. The app can write to these. ``entrypoint``, ``cmd``: the image's own
    program. ``digests``: each container image that it is made from, and the manifest that this name was then.
    ``musl``: whether its programs are musl's, and none are glibc's. ``data``: whether it has nothing at ``/data``, or
    an empty folder.
    """

    layers: tuple[str, ...]
    python: str = ""
    workdir: str = ""
    volumes: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    digests: tuple[tuple[str, str], ...] = ()
    musl: bool = False
    data: bool = False

    @staticmethod
    def from_dict(data: dict[str, Any]) -> RootFact:
        """Return the fact whose fields are in ``data``, as JSON has them."""
        lists = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
        return RootFact(**{**data, **lists, "digests": tuple((str(n), str(d)) for n, d in data.get("digests", ()))})


@dataclass(frozen=True)
class ImageFact:
    """An image, or an environment that the user gave, as it was found: its folder and its Python.

    ``root``: of an image with a root of its own, which has no folder.
    """

    path: str
    hash: str = ""
    python: str = ""
    asked: str = ""
    note: str = ""
    env: tuple[tuple[str, str], ...] = ()  # variables that the image's layers set
    built_at: float = 0.0  # seconds since 1970; 0: not built by flyted, or not known
    built: tuple[str, ...] = ()  # packages built from source, so that their code ran: "name==version"
    root: RootFact | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fact as JSON-ready data, which :meth:`from_dict` takes back."""
        data = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {**data, "root": dataclasses.asdict(self.root) if self.root else None}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ImageFact:
        """Return the fact that :meth:`to_dict` wrote."""
        env = tuple((str(n), str(v)) for n, v in data["env"])
        built, root = tuple(str(each) for each in data.get("built", ())), data.get("root")
        return ImageFact(**{**data, "env": env, "built": built, "root": RootFact.from_dict(root) if root else None})


@dataclass(frozen=True)
class Revision:
    """One deployed version of an app. ``fingerprint`` also covers the generations of its secrets.

    ``deployed_by``: the user's name at the deploy; "" for revisions of flyted 0.1.0, which did not store it.
    ``notes``: what its first start reported that the user should know (plan/states.py). ``replicas``: how many it has
    had at most, if these were more than its least ones.
    Values that follow from the spec alone are computed once: the store keeps the revision object while it exists.
    """

    number: int
    spec: AppSpec
    image: ImageFact
    fingerprint: str
    status: str  # pending, ready, failed
    reason: str
    created_at: float
    deployed_by: str = ""
    notes: tuple[str, ...] = ()
    replicas: int = 0

    @cached_property
    def shape(self) -> Shape | None:
        """The engine that its command starts, as the app runs it; ``None`` for any other program."""
        return shape_of(self.spec)

    @cached_property
    def open_paths(self) -> tuple[str, ...] | None:
        """The paths that everybody may ask for; ``None`` if the ingress closes none."""
        return open_paths(self.spec)

    @cached_property
    def digest(self) -> str:
        """The digest of its spec."""
        return self.spec.digest()


@dataclass(frozen=True)
class StoredApp:
    """An app as the user wants it. ``serving``: the revision that requests go to, ``None`` before the first one.

    ``pool``: the number of its pool of servers in the ingress; ``None`` if it has never had more than one replica.
    """

    key: AppKey
    wanted: str  # started, stopped
    serving: int | None
    revisions: tuple[Revision, ...]
    created_at: float
    updated_at: float
    serving_since: float | None = None
    pool: int | None = None

    def revision(self, number: int | None) -> Revision | None:
        """Return the revision with this number, or ``None``."""
        return next((r for r in self.revisions if r.number == number), None)

    @cached_property
    def current(self) -> Revision | None:
        """The serving revision, or ``None``."""
        return self.revision(self.serving)

    def replicas_of(self, number: int) -> tuple[Replica, ...]:
        """Return the replicas of a revision that exist however little it has to do: its minimum, or the first one."""
        revision = self.revision(number)
        least = max(1, revision.spec.min_replicas) if revision is not None else 1
        return tuple(Replica(self.key.id, number, each) for each in range(least))

    def replicas_so_far(self, number: int) -> tuple[Replica, ...]:
        """Return the replicas that a revision has had: those whose lines are in the journal."""
        revision = self.revision(number)
        most = revision.replicas if revision is not None else 0
        least = self.replicas_of(number)
        return (*least, *(Replica(self.key.id, number, each) for each in range(len(least), most)))

    def most_replicas_of(self, number: int) -> tuple[Replica, ...]:
        """Return the replicas that a revision may have."""
        revision = self.revision(number)
        most = revision.spec.max_replicas if revision is not None else 1
        return tuple(Replica(self.key.id, number, each) for each in range(most))

    @cached_property
    def serving_replicas(self) -> tuple[Replica, ...]:
        """The replicas that shall exist at least; none if the app is stopped or has never come up.

        What an app needs beyond these follows from its load (plan/scaling.py).
        """
        if self.wanted != "started" or self.serving is None:
            return ()
        return self.replicas_of(self.serving)

    @cached_property
    def pooled(self) -> bool:
        """True if the revision that serves may have more than one replica."""
        return self.current is not None and self.current.spec.max_replicas > 1 and self.pool is not None

    @cached_property
    def sleepers(self) -> tuple[str, ...]:
        """The services of its revisions whose engine may sleep."""
        sleeping = (each for each in self.revisions if each.spec.engine_sleep)
        return tuple(replica.service for each in sleeping for replica in self.most_replicas_of(each.number))


@dataclass(frozen=True)
class Failure:
    """A pair that systemd gave up: how often in a row, when flyted tries again, and why, for people."""

    count: int
    retry_at: float
    reason: str


@dataclass(frozen=True)
class Facts:
    """Everything that one pass of the planner sees."""

    apps: tuple[StoredApp, ...]
    units: Mapping[str, UnitFact]
    traffic: Mapping[str, Traffic] = field(default_factory=dict)  # by server; empty while HAProxy is down
    keeping: frozenset[str] = frozenset()  # services that run and close no idle connection (launch/words.py, KEEPS)
    counted: bool = True  # whether HAProxy answered, if it runs: else it serves requests that are not known
    ingress: str = ""  # ActiveState of the ingress's unit
    rules: str | None = None  # digest of the rules that the running HAProxy has; "": it says none; None: not known
    listen: Listen = field(default_factory=Listen)  # where the ingress shall listen
    listening: tuple[str, ...] | None = None  # where PID 1 listens for it; read only when that may be elsewhere
    sites: tuple[Site, ...] = ()
    challenges: Mapping[str, str] = field(default_factory=dict)  # names that are being proved (IngressState)
    candidates: frozenset[Replica] = frozenset()  # being deployed: started beside the serving revision, not yet routed
    leaving: Mapping[Replica, float] = field(default_factory=dict)  # replicas that drain → since when
    scales: Mapping[str, Scale] = field(default_factory=dict)  # by app id: of apps that run, as the last pass left it
    cpu_s: Mapping[str, float] = field(default_factory=dict)  # service → CPU time, of apps that scale by it
    cores: int = 1  # the processors of the machine
    memory_bytes: int = 0  # of the machine, used or not; 0: not known
    free_bytes: int | None = None  # of its memory; None: no app runs that could get another replica
    numbers: Mapping[Replica, int] = field(default_factory=dict)  # of those that call other apps (plan/calls.py)
    untold: frozenset[Replica] = frozenset()  # of those, the ones to which the ingress may still send new requests
    failures: Mapping[Replica, Failure] = field(default_factory=dict)
    outdated: frozenset[Replica] = frozenset()  # their units differ from those that would be made now
    busy: frozenset[Replica] = frozenset()  # an action on them is under way: the plan has none for them
    ending: Mapping[str, float] = field(default_factory=dict)  # services that stop → since when; see overdue.py
    gpu: GpuFacts = field(default_factory=GpuFacts)
    upkeep: UpkeepFacts = field(default_factory=UpkeepFacts)
    start_s: float = 300.0  # seconds that a start may take
    gpu_wait_s: float = 120.0  # seconds that it may wait for its GPUs before that
    freeze: FreezeRules = field(default_factory=FreezeRules)

    @cached_property
    def index(self) -> UnitIndex:
        """The units, with those that run apart from those that sleep."""
        return indexed(self.units)

    def units_of(self, app_id: str) -> tuple[UnitFact, ...]:
        """Return the units of one app, sorted by name."""
        return tuple(self.index[name] for name in sorted(self.index.by_app.get(app_id, ())))


@dataclass(frozen=True)
class UnitEnd:
    """How a service's last run ended: ``Result`` and ``ExecMainStatus`` of org.freedesktop.systemd1(5).

    ``result``: "success", "exit-code", "signal", "timeout", "oom-kill", "protocol", "start-limit-hit" or another.
    ``status``: the exit status, or the signal's number.
    """

    result: str
    status: int
