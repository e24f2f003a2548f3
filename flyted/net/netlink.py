"""Sends the few rtnetlink(7) requests that the network of apps needs, without another program.

ip(8) cannot put a link into the namespace of a process that it may not look into, and needs a process per step.
"""

from __future__ import annotations

import _socket as socket  # not socket: its imports take longer than all the work here
import errno
import os
import struct

NEWLINK, SETLINK, NEWADDR, DELADDR, NEWROUTE, DELLINK = 16, 19, 20, 21, 24, 17
REQUEST, ACK, REPLACE, EXCLUSIVE, CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
UP = 0x1  # IFF_UP
_ADDRESS, _IFNAME, _MTU, _MASTER, _LINKINFO, _NET_NS_PID, _AF_SPEC = 1, 3, 4, 10, 18, 19, 26  # linux/if_link.h
_ADDR_GEN_MODE, _ADDR_GEN_NONE = 8, 1  # IFLA_INET6_ADDR_GEN_MODE
_KIND, _DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2  # linux/if_addr.h
_DST, _OIF, _GATEWAY = 1, 4, 5  # linux/rtnetlink.h
_TABLE_MAIN, _PROTOCOL_STATIC, _UNIVERSE, _ON_LINK = 254, 4, 0, 253
_UNICAST, _PROHIBIT = 1, 8
_ERROR = 2


class Failed(Exception):
    """The network cannot be made; ``str()`` is the line to show."""


class Exists(Failed):
    """A link, address or route of this name exists already."""


class Missing(Failed):
    """There is no link of this name."""


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded (netlink(7))."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _number(value: int) -> bytes:
    return struct.pack("=I", value)


def _link(index: int = 0, flags: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, flags)


def _address(name: str, text: str, prefix: int) -> bytes:
    packed = socket.inet_aton(text)
    head = struct.pack("=BBBBI", socket.AF_INET, prefix, 0, _UNIVERSE, socket.if_nametoindex(name))
    return head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


class Netlink:
    """A connection to the kernel's routing tables in the network namespace of this process.

    Methods raise :class:`Failed` when the kernel refuses, and ``OSError`` when a link is not there.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._sequence = 0

    def bridge(self, name: str, index: int, mtu: int, station: bytes) -> None:
        """Make a bridge with this interface index and this Ethernet address, and set it up."""
        info = attribute(_KIND, _text("bridge"))
        body = _link(index, UP) + attribute(_IFNAME, _text(name)) + attribute(_LINKINFO, info)
        body += attribute(_ADDRESS, station) + attribute(_MTU, _number(mtu))
        self._do(f"bridge {name}", NEWLINK, CREATE | EXCLUSIVE, body)

    def pair(self, name: str, peer: str, mtu: int) -> None:
        """Make a veth(4) pair, both links down."""
        size = attribute(_MTU, _number(mtu))
        other = attribute(_VETH_PEER, _link() + attribute(_IFNAME, _text(peer)) + size)
        info = attribute(_KIND, _text("veth")) + attribute(_DATA, other)
        body = _link() + attribute(_IFNAME, _text(name)) + size + attribute(_LINKINFO, info)
        self._do(f"veth pair {name}", NEWLINK, CREATE | EXCLUSIVE, body)

    def rename(self, name: str, new_name: str) -> None:
        """Rename a link that is down."""
        body = _link(socket.if_nametoindex(name)) + attribute(_IFNAME, _text(new_name))
        self._do(f"link {new_name}", SETLINK, 0, body)

    def hand_over(self, name: str, pid: int, master: int) -> None:
        """Move a link into the namespace of a process, as a port of the bridge with index ``master``, and set it up.

        Raises :class:`Exists`, and moves nothing, if there is a link of this name there. The name is not changed by
        the same request: the kernel would first move the link under its old name, and then fail to rename it.
        """
        body = _link(socket.if_nametoindex(name), UP) + attribute(_NET_NS_PID, _number(pid))
        self._do(f"port {name}", SETLINK, 0, body + attribute(_MASTER, _number(master)))

    def no_ipv6(self, name: str) -> None:
        """Make a link that is down get no IPv6 address when it is set up, not even a link-local one."""
        mode = attribute(_ADDR_GEN_MODE, struct.pack("=B", _ADDR_GEN_NONE))
        spec = attribute(_AF_SPEC, attribute(socket.AF_INET6, mode))
        self._do(f"link {name} without IPv6", SETLINK, 0, _link(socket.if_nametoindex(name)) + spec)

    def remove(self, name: str) -> None:
        """Remove a link, if it is there, and with it the other end of a veth pair."""
        try:
            self._do(f"removing {name}", DELLINK, 0, _link(socket.if_nametoindex(name)))
        except (OSError, Missing):
            return

    def up(self, name: str) -> None:
        """Set a link up."""
        self._do(f"link {name}", SETLINK, 0, _link(socket.if_nametoindex(name), UP))

    def address(self, name: str, text: str, prefix: int) -> None:
        """Give a link an IPv4 address."""
        self._do(f"address {text}", NEWADDR, CREATE | EXCLUSIVE, _address(name, text, prefix))

    def no_address(self, name: str, text: str, prefix: int) -> None:
        """Remove an IPv4 address from a link."""
        self._do(f"removing address {text}", DELADDR, 0, _address(name, text, prefix))

    def route(self, target: str, prefix: int, *, link: str, gateway: str = "") -> None:
        """Route an IPv4 network through a gateway on a link; without a gateway it is directly on the link."""
        way = attribute(_OIF, _number(socket.if_nametoindex(link)))
        if gateway:
            way += attribute(_GATEWAY, socket.inet_aton(gateway))
        self._route(target, prefix, _UNIVERSE if gateway else _ON_LINK, _UNICAST, way)

    def prohibit(self, target: str, prefix: int) -> None:
        """Refuse what goes to an IPv4 network: connect(2) and sendto(2) fail immediately with EACCES.

        The network may be refused already: the route belongs to no link, and stays when a link is removed.
        """
        self._route(target, prefix, _UNIVERSE, _PROHIBIT, b"", existing=REPLACE)

    def _route(
        self, target: str, prefix: int, scope: int, kind: int, way: bytes, *, existing: int = EXCLUSIVE
    ) -> None:
        head = struct.pack("=BBBBBBBBI", socket.AF_INET, prefix, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, kind, 0)
        body = head + (attribute(_DST, socket.inet_aton(target)) if prefix else b"") + way
        self._do(f"route {target}/{prefix}", NEWROUTE, CREATE | existing, body)

    def _do(self, what: str, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        head = struct.pack("=IHHII", 16 + len(body), kind, REQUEST | ACK | flags, self._sequence, 0)
        self._socket.send(head + body)
        answer = self._socket.recv(65536)
        _length, answered, _flags, _sequence, _port, status = struct.unpack_from("=IHHIIi", answer)
        if answered != _ERROR:
            raise Failed(f"{what}: the kernel gave an unexpected answer")
        if status == -errno.EEXIST:
            raise Exists(f"{what}: it already exists")
        if status == -errno.ENODEV:
            raise Missing(f"{what}: it does not exist")
        if status:
            raise Failed(f"{what}: {os.strerror(-status)}")
