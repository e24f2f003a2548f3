"""Reads from proc(5) which sockets listen in this network namespace, and which other processes are in this unit."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Collection

_TABLES = (("/proc/self/net/tcp", socket.AF_INET), ("/proc/self/net/tcp6", socket.AF_INET6))
_LISTEN = "0A"  # net/tcp_states.h
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to recognise it
_LITTLE = sys.byteorder == "little"
_BEST = ("127.0.0.1", "::1")


def listening() -> list[tuple[str, int]]:
    """Return the address and port of each listening TCP socket; none if they cannot be read now."""
    try:
        return [_address(words[1], family) for path, family in _TABLES for words in _rows(path) if words[3] == _LISTEN]
    except OSError:
        return []


def target(heard: list[tuple[str, int]], port: int) -> str | None:
    """Return the ``address:port`` at which to reach ``port``; ``None`` if nothing listens there.

    The form is that of systemd-socket-proxyd, which splits at the last colon and knows no brackets.
    """
    there = [_ANY.get(address, address) for address, each in heard if each == port]
    if not there:
        return None
    best = next((address for address in _BEST if address in there), there[0])
    return f"{best}:{port}"


def tcp_inodes() -> set[str]:
    """Return the inodes of all TCP sockets that a process holds. Raise ``OSError`` if they cannot be read."""
    return {words[9] for path, _family in _TABLES for words in _rows(path)} - {"0"}


def others_of_this_unit(known: Collection[int]) -> list[int]:
    """Return the processes of this unit other than the ``known`` ones; none if this is not the unit of an app."""
    own = _cgroup("self")
    if "/flyted-app-" not in own:
        return []
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if pid not in known and _cgroup(str(pid)) == own]


def _cgroup(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def _rows(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="ascii") as file:
            return [line.split() for line in file.readlines()[1:]]
    except FileNotFoundError:  # IPv6 is off
        return []


def _address(text: str, family: int) -> tuple[str, int]:
    """Parse ``0100007F:1F90``: 32-bit words in the machine's byte order, then the port."""
    number, _, port = text.partition(":")
    words = [bytes.fromhex(number[at : at + 8])[:: -1 if _LITTLE else 1] for at in range(0, len(number), 8)]
    address = socket.inet_ntop(family, b"".join(words))
    return address.removeprefix("::ffff:"), int(port, 16)
