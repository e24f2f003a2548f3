"""Waits for the default route of the app's network, which units/flyted-net@.service opens while this unit starts.

launch's own steps before the app's code usually take longer, so there is rarely a wait; at a wake the way is open.
While the app runs, that route disappears when the router ends, and comes back: meanwhile connections fail, as on any
network.
"""

from __future__ import annotations

import sys
import time

from .refused import Refused
from .words import EX_TEMPFAIL, NO_NETWORK

TIMEOUT_S = 20.0
NOT_THERE = f"{NO_NETWORK} after {TIMEOUT_S:.0f} s"
_ROUTES = "/proc/self/net/route"
_ALL, _GATEWAY = "0.0.0.0", 0x2  # noqa: S104  a route, nothing listens there; linux/route.h: RTF_GATEWAY
_FIRST_LOOK_S, _SLOWER, _LAST_LOOK_S = 0.001, 1.5, 0.05


def await_egress(timeout_s: float = TIMEOUT_S) -> None:
    """Wait until there is a default route; raise as :func:`await_route`."""
    await_route(_ALL, timeout_s)


def await_route(target: str, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until there is a route through the router to ``target``, an IPv4 address; "0.0.0.0": the default route.

    Raise ``Refused``, with ``EX_TEMPFAIL``, if there is none after ``timeout_s`` seconds: a later start may find it.
    """
    end = time.monotonic() + timeout_s
    pause = _FIRST_LOOK_S
    while not _open(target):
        if time.monotonic() > end:
            raise Refused(NOT_THERE, EX_TEMPFAIL)
        time.sleep(pause)
        pause = min(pause * _SLOWER, _LAST_LOOK_S)


def _open(target: str) -> bool:
    """Report whether the route is there: adding it is the last step of flyted/net/veth.py."""
    number = int.from_bytes(bytes(map(int, target.split("."))), sys.byteorder)
    mask = 0xFFFFFFFF if number else 0
    with open(_ROUTES, encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return any(row[1] == f"{number:08X}" and row[7] == f"{mask:08X}" and int(row[3], 16) & _GATEWAY for row in rows)
