"""Tells flyted, which speaks to no other machine, where a name leads, and by which addresses this one is found.

``is_here`` and ``own_public`` are those of flytectl/addresses.py: neither may import the other (tests/walls.py), and
tests/acme/test_record.py has them remain the same.
"""

from __future__ import annotations

import ipaddress
import os
import socket

from . import words
from .words import EX_NOANSWER, EX_NORECORD, OURS

_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # RFC 5737, RFC 3849: nobody's


class NoRecord(Exception):
    """A name has no address in DNS."""


def main(name: str) -> int:
    """Print what is known of a name, and return the exit status."""
    _say(words.OWN, own_public())
    try:
        found = addresses(name)
    except NoRecord:
        return EX_NORECORD
    except OSError:
        return EX_NOANSWER
    _say(words.ELSEWHERE, [each for each in found if not is_here(each)])
    return 0


def addresses(name: str) -> list[str]:
    """Return the addresses of a name.

    Raises :class:`NoRecord`, and :class:`OSError` if the resolver does not answer.
    """
    try:
        found = socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
            raise NoRecord(name) from error
        raise
    return sorted({str(info[4][0]) for info in found})


def is_here(address: str) -> bool:
    """Report whether an address is one of this machine's: only those can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def own_public() -> list[str]:
    """Return the addresses from which this machine would reach the internet, if they are public ones.

    Nothing is sent: connect(2) of a datagram socket only chooses a route.
    """
    found = []
    for family, target in _ELSEWHERE.items():
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                text = str(probe.getsockname()[0])
        except OSError:
            continue
        if ipaddress.ip_address(text).is_global:
            found.append(text)
    return found


def _say(what: str, found: list[str]) -> None:
    for each in found:
        os.write(1, f"{OURS}{what}{each}\n".encode())
