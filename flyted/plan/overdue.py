"""Finds services of apps that take longer to stop than they may; they get SIGKILL. Pure.

systemd's own limit (``TimeoutStopSec=``) does not bind a service that wants to continue: its main process extends the
limit with each ``EXTEND_TIMEOUT_USEC=`` that it sends (sd_notify(3)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flyted.contract.names import replica_of
from flyted.plan.unit_index import UnitFact
from flyted.plan.units import STOP_S

KILL_S = STOP_S + 5.0
"""Seconds of stopping after which flyted kills a service.

systemd itself sends SIGKILL after :data:`STOP_S`, and a program may then take a moment to end.
"""
AGAIN_S = 5.0


@dataclass(frozen=True)
class Ending:
    """The services that are stopping.

    ``kill``: the units to kill now. ``since``: unit → when it was first seen stopping. ``next_pass_at``: when the next
    kill may be due; ``None`` if no unit is stopping.
    """

    kill: tuple[str, ...]
    since: dict[str, float]
    next_pass_at: float | None


def ending(units: Mapping[str, UnitFact], before: Mapping[str, float], now: float) -> Ending:
    """Return the services of apps that are stopping, and which of them to kill now.

    ``before``: the ``since`` of the previous call. All times are seconds of one monotonic clock.
    """
    since = {
        name: before.get(name, now)
        for name in sorted(name for name, fact in units.items() if fact.active == "deactivating")
        if name.endswith(".service") and replica_of(name) is not None
    }
    kill = tuple(name for name, start in since.items() if now - start >= KILL_S)
    kill_times = [now + AGAIN_S if name in kill else start + KILL_S for name, start in since.items()]
    return Ending(kill, since, min(kill_times, default=None))
