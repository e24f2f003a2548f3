"""Chooses the ports of the ingress: 443 and 80, or the next free ones with a note. Pure: text of /proc in, values out.

PID 1 listens, in one socket unit, and HAProxy inherits the sockets: while HAProxy is away, clients wait instead of
being refused. There is one unit because only within a unit the order of the descriptors is certain (sd_listen_fds(3)).

/proc/net/tcp is described in Linux' Documentation/networking/proc_net_tcp.rst; addresses are hexadecimal 32-bit words
in the machine's byte order (little-endian on every machine Debian's amd64 and arm64 run on).

HAProxy therefore needs no capability and no network of its own, and clients are not refused either after it was
killed. Changing the ports means another unit, and a restart of HAProxy.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Collection, Iterable
from typing import Any

from flyted.contract.errors import HostFailure
from flyted.plan.ingress.state import LOOPBACK, Listen

HTTPS, HTTP = 443, 80
INGRESS_UNIT, INGRESS_SOCKET = "flyted-ingress.service", "flyted-ingress.socket"
CALLS_SOCKET, CALLS_NAME = "flyted-calls.socket", "calls"
"""The unit with the port for calls between apps, in another network (units/flyted-calls.socket), and the name of its
descriptor."""
ADMIN_SOCKET = "/run/flyted/admin.sock"
BACKLOG = 4096  # net.core.somaxconn: connections that wait during a restart of HAProxy
_LISTEN = "0A"
_TRIES = 100


def listening(
    tcp: str, tcp6: str = "", addresses: Iterable[str] = LOOPBACK, *, but: Listen | None = None
) -> frozenset[int]:
    """Return the ports on which one of ``addresses`` cannot be bound because another socket listens there.

    ``tcp``, ``tcp6``: the text of /proc/net/tcp and /proc/net/tcp6. A socket on another address of the machine does
    not count; one on 0.0.0.0 or :: does. A socket on ``[::]`` usually takes IPv4 too (``net.ipv6.bindv6only``), so it
    counts against both families. ``but``: our own listeners, which do not count.
    """
    ours = {ipaddress.ip_address(a) for a in addresses}
    every = any(a.is_unspecified for a in ours)
    own = _sockets(but) if but is not None else frozenset()
    taken = set()
    for line in (*tcp.splitlines(), *tcp6.splitlines()):
        words = line.split()
        if len(words) < 4 or words[3] != _LISTEN:
            continue
        text, _, port = words[1].rpartition(":")
        address = _address(text)
        if (address, int(port, 16)) in own:
            continue
        if every or address.is_unspecified or address in ours:
            taken.add(int(port, 16))
    return frozenset(taken)


def _sockets(listen: Listen) -> frozenset[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]]:
    ports = (listen.https_port, listen.http_port)
    return frozenset((ipaddress.ip_address(address), port) for address in listen.addresses for port in ports)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    words = [struct.pack("<I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def loopback_addresses(if_inet6: str) -> tuple[str, ...]:
    """Return the loopback addresses of this machine. ::1 is left out if /proc/net/if_inet6 does not have it."""
    found = any(line.startswith(f"{1:032x} ") for line in if_inet6.splitlines())
    return LOOPBACK if found else LOOPBACK[:1]


def listeners(listen: Listen) -> tuple[str, ...]:
    """Return the listeners of PID 1, as for ``ListenStream=``: descriptor 3 and on, in the order HAProxy expects."""
    ports = (listen.https_port, listen.http_port)
    return (ADMIN_SOCKET, *(f"{host}:{port}" for port in ports for host in bindable(listen)))


def bindable(listen: Listen) -> list[str]:
    """Return the addresses as they are written before a colon and a port: IPv6 in brackets."""
    found = [ipaddress.ip_address(a) for a in listen.addresses]
    return [f"[{a}]" if a.version == 6 else str(a) for a in found]


def ingress_socket(listen: Listen) -> dict[str, Any]:
    """Return the properties of the ingress's socket unit. Its service has the same stem (systemd.socket(5))."""
    ipv4 = any(ipaddress.ip_address(a).version == 4 for a in listen.addresses)
    return {
        "Description": f"flyted ingress: ports {listen.https_port} and {listen.http_port}, admin socket",
        "Listen": [("Stream", where) for where in listeners(listen)],
        "SocketMode": 0o600,  # only root may connect to the admin socket, although HAProxy runs as another user
        "DirectoryMode": 0o755,
        "Backlog": BACKLOG,
        "FreeBind": True,  # an address from the settings may come up later than this unit
        "BindIPv6Only": "ipv6-only" if ipv4 else "default",  # [::] would take the port from 0.0.0.0
        "RemoveOnStop": True,
        "CollectMode": "inactive-or-failed",
        "TriggerLimitIntervalUSec": 0,  # clients that wait while HAProxy cannot start must not fail the unit for good
    }


def choose_ports(
    taken: Collection[int],
    wanted_https: int = HTTPS,
    wanted_http: int = HTTP,
    *,
    addresses: tuple[str, ...] = LOOPBACK,
    ours: Collection[int] = (),
) -> tuple[Listen, tuple[str, ...]]:
    """Return the ports to listen on, and a sentence for each wanted port that is taken.

    ``taken``: the ports on which another socket listens. ``ours``: ports that the running ingress itself holds, so
    they are not taken. In place of a port that is taken, the first free one from 8443 (HTTPS) or 8080 (HTTP) is used.
    Raises :class:`HostFailure` if a hundred in a row are taken.
    """
    blocked = set(taken) - set(ours)
    https = _free(wanted_https, 8443, blocked, "HTTPS")
    http = _free(wanted_http, 8080, blocked | {https}, "HTTP")
    notes = tuple(
        f"port {wanted} is taken by another program: {name} is served on port {got}"
        for name, wanted, got in (("HTTPS", wanted_https, https), ("HTTP", wanted_http, http))
        if wanted != got
    )
    return Listen(https_port=https, http_port=http, addresses=addresses), notes


def _free(wanted: int, instead: int, blocked: Collection[int], name: str) -> int:
    candidates: list[int] = [wanted, *range(instead, instead + _TRIES)]
    for port in candidates:
        if port not in blocked:
            return port
    raise HostFailure(
        f"no free port for {name}: {wanted} and {instead} to {instead + _TRIES - 1} are all taken",
        hint="see who listens: ss -ltnp",
    )
