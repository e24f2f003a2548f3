"""What the machine in memory has of an app: its pair of units, and the requests that wait there or are answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from flyted.contract.names import Replica


@dataclass(eq=False)
class Request:
    """A request to an app. ``end``: "" while it waits or runs, then "answered", or why it was not.

    ``by_itself``: for a path that wakes no app.
    """

    app: str
    takes_s: float
    came: float
    end: str = ""
    by_itself: bool = False


@dataclass(eq=False)
class Pair:
    """The two units of a replica; ``run`` numbers the runs of its program, so that an old timer finds out.

    ``up_at``: when it came up; ``last_end``: when a request to it ended that keeps it awake; ``drained``: a stop began
    after a drain; ``cpu_s``: the CPU time of its service until ``busy_since``, from when it has had requests.
    """

    replica: Replica
    restarts: bool
    needs_gpu: bool
    socket: str = "active"
    service: str = "inactive"
    run: int = 0
    queue: list[Request] = field(default_factory=list)
    held: list[Request] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    starts: list[asyncio.Future[str]] = field(default_factory=list)
    stops: list[asyncio.Future[str]] = field(default_factory=list)
    again: bool = False
    drained: bool = False
    devices: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    failed_at: float = float("-inf")
    up_at: float = float("-inf")
    last_end: float = float("-inf")
    cpu_s: float = 0.0
    busy_since: float = 0.0
