"""Reports which addresses are this machine's, without asking any other machine."""

from __future__ import annotations

import ipaddress
import socket

_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # RFC 5737, RFC 3849: nobody's


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
