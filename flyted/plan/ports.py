"""Which ports the ingress listens on: 443 and 80, or the next free ones, said so. Pure: text of /proc in, values out.

PID 1 listens, in one socket unit, and HAProxy inherits: while HAProxy is away, clients wait instead of being refused.
One unit, since only within one the order of the descriptors is certain (sd_listen_fds(3)).

/proc/net/tcp is described in Linux' Documentation/networking/proc_net_tcp.rst; addresses are hexadecimal 32-bit words
in the machine's byte order (little-endian on every machine Debian's amd64 and arm64 run on).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Collection, Iterable
from typing import Any

from flyted.contract.errors import HostFailure
from flyted.plan.ingress import LOOPBACK, Listen

HTTPS, HTTP = 443, 80
INGRESS_SOCKET = "flyted-ingress.socket"
ADMIN_SOCKET = "/run/flyted/admin.sock"
BACKLOG = 4096  # net.core.somaxconn: what waits during a restart of HAProxy
_LISTEN = "0A"
_TRIES = 100


def listening(tcp: str, tcp6: str = "", addresses: Iterable[str] = LOOPBACK) -> frozenset[int]:
    """The ports on which somebody listens so that we could not bind one of ``addresses`` on them as well.

    A socket of another address of the machine is no hindrance; one of 0.0.0.0 or :: is. ``[::]`` usually takes IPv4
    along (``net.ipv6.bindv6only``), so it counts against both families.
    """
    ours = {ipaddress.ip_address(a) for a in addresses}
    every = any(a.is_unspecified for a in ours)
    taken = set()
    for line in (*tcp.splitlines(), *tcp6.splitlines()):
        words = line.split()
        if len(words) < 4 or words[3] != _LISTEN:
            continue
        text, _, port = words[1].rpartition(":")
        address = _address(text)
        if every or address.is_unspecified or address in ours:
            taken.add(int(port, 16))
    return frozenset(taken)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    words = [struct.pack("<I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def loopback_addresses(if_inet6: str) -> tuple[str, ...]:
    """Where a loopback-only ingress can listen: ::1 is left out where /proc/net/if_inet6 does not have it."""
    found = any(line.startswith(f"{1:032x} ") for line in if_inet6.splitlines())
    return LOOPBACK if found else LOOPBACK[:1]


def listeners(listen: Listen) -> tuple[str, ...]:
    """What PID 1 listens on, as ``ListenStream=`` says it: descriptor 3 and on, in the order HAProxy counts on."""
    ports = (listen.https_port, listen.http_port)
    return (ADMIN_SOCKET, *(f"{host}:{port}" for port in ports for host in bindable(listen)))


def bindable(listen: Listen) -> list[str]:
    """The addresses as they stand before a colon and a port."""
    found = [ipaddress.ip_address(a) for a in listen.addresses]
    return [f"[{a}]" if a.version == 6 else str(a) for a in found]


def ingress_socket(listen: Listen) -> dict[str, Any]:
    """The properties of the ingress's socket unit; its service has the same stem (systemd.socket(5))."""
    ipv4 = any(ipaddress.ip_address(a).version == 4 for a in listen.addresses)
    return {
        "Description": f"flyted ingress: ports {listen.https_port} and {listen.http_port}, admin socket",
        "Listen": [("Stream", where) for where in listeners(listen)],
        "SocketMode": 0o600,  # the admin socket is root's alone, although HAProxy runs as another user
        "DirectoryMode": 0o755,
        "Backlog": BACKLOG,
        "FreeBind": True,  # an address of the settings may come up later than we do
        "BindIPv6Only": "ipv6-only" if ipv4 else "default",  # [::] would take the port from 0.0.0.0
        "RemoveOnStop": True,
        "CollectMode": "inactive-or-failed",
        "TriggerLimitIntervalUSec": 0,  # clients that wait while HAProxy cannot start must not close the door for good
    }


def choose_ports(
    taken: Collection[int],
    wanted_https: int = HTTPS,
    wanted_http: int = HTTP,
    *,
    addresses: tuple[str, ...] = LOOPBACK,
    ours: Collection[int] = (),
) -> tuple[Listen, tuple[str, ...]]:
    """What to listen on, and a sentence per port that could not be had.

    ``ours``: ports that the running ingress holds itself, so they are not taken. Where a port is taken the next free
    one counting from 8443 (8080) is used. Raises :class:`HostFailure` when a hundred in a row are taken.
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
