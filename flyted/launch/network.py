"""The way out of the app's network: a unit beside this one opens it (units/flyted-net@.service) while this one starts.

What is done before the app's own code runs takes longer, as a rule, so that nobody waits; and a wake finds it open.
While the app runs it may close, when the router ends, and opens again: then a connection fails, as on any network.
"""

from __future__ import annotations

import time

from .refused import EX_TEMPFAIL, Refused

PATIENCE_S = 20.0
NOT_THERE = f"its network was not there after {PATIENCE_S:.0f} s"  # plan/reasons.py looks for it
_ROUTES = "/proc/self/net/route"
_ALL, _GATEWAY = "00000000", 0x2  # linux/route.h: RTF_GATEWAY
_FIRST_LOOK_S, _SLOWER, _LAST_LOOK_S = 0.001, 1.5, 0.05


def await_way_out(patience_s: float = PATIENCE_S) -> None:
    """Returns when there is a way out. Raises ``Refused`` where it does not come; a later start may find it."""
    end = time.monotonic() + patience_s
    pause = _FIRST_LOOK_S
    while not _open():
        if time.monotonic() > end:
            raise Refused(NOT_THERE, EX_TEMPFAIL)
        time.sleep(pause)
        pause = min(pause * _SLOWER, _LAST_LOOK_S)


def _open() -> bool:
    """Whether there is a route to everywhere: the last step of flyted/net/cable.py."""
    with open(_ROUTES, encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return any(row[1] == row[7] == _ALL and int(row[3], 16) & _GATEWAY for row in rows)
