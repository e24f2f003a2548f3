"""Defines the network's addresses, the networks that apps may reach, and the router's rules. Pure.

Apps have addresses of 198.18.0.0/15, which is set aside for benchmarks (RFC 2544): no network that a machine is really
connected to has them. They are seen inside these namespaces only. There is no IPv6: an app that tries it gets an error
at once.

An app that calls others has an address that flyted gave it (``flyted/plan/calls.py``), by which the ingress knows the
caller; all others take any address that is free. ``CALLS`` is where the ingress answers apps.

Networks that apps may not reach are refused by routes of the app's own namespace, which the app cannot change: the
call fails with "permission denied". The router's rules and the units' ``IPAddressDeny=`` refuse them again.
"""

from __future__ import annotations

BRIDGE, BRIDGE_INDEX = "apps", 1000  # a fixed index, so that veth.py can name the bridge from another namespace
STATION = bytes.fromhex("02c612000001")
"""The router's Ethernet address, one that is administered locally. Without one of its own, a bridge takes the lowest
of its ports', so that with the end of an app all others would look for the router in vain for some seconds."""
OUT = "out"  # slirp4netns' interface, the router's only link to the outside
INSIDE = "eth0"  # the app's end of its veth pair
LOOPBACK = "lo"  # has the app's address too, which so stays when the veth pair ends
STATUS = "Routing the networks of apps, and calls between them"
"""The router's status, by which flyted knows one of an older version, without a way to other apps."""
HOLD = "/usr/bin/sleep"
"""The program that holds the router's namespace: a namespace lives as long as a process is in it."""
WINDOW, HEADERS = 65535, 40  # bytes: libslirp's largest window, which it does not scale; headers of IPv4 and TCP
MTU = WINDOW // 3 + HEADERS
"""The largest MTU, in bytes, with which no upload stalls. libslirp says that its window has grown when two more
segments fit into it. A sender that is left with less than one segment waits for that, so it has to come before the
window is full. With larger segments it comes too late, and the sender asks by itself, after 0.2 s. No physical link
limits the MTU here."""
FIRST, LAST = 2, 1022  # numbers of apps; a bridge has at most 1023 ports (linux/net/bridge/br_private.h: BR_MAX_PORTS)
APPS, PREFIX, ROUTER = "198.18.0.0", 16, "198.18.0.1"
FIRST_CALLER, FIRST_CLOSED, LAST_CALLER = 1024, 2048, 3071
"""Numbers of apps that call others; from ``FIRST_CLOSED`` on they reach nothing but apps (``--no-egress``)."""
CLOSED_CALLERS = "198.18.8.0/22"
CALLERS = f"198.18.4.0/22, {CLOSED_CALLERS}"
CALLS, CALLS_PORT, CALLS_LINK = "198.18.255.1", 80, "calls"
"""The address at which the ingress answers apps, in a namespace of its own (units/flyted-calls.socket), and the name
of the bridge's port that leads there."""
OUTSIDE = "198.19.0.0/24"
RESOLVER = "198.19.0.3"
"""The name server of apps if the machine's own is on its loopback: slirp4netns, which has the third address of its
network (slirp4netns(1), "--cidr"), asks the machine's."""
_ALL = "0.0.0.0"  # noqa: S104  a network, nothing listens there
OPEN: tuple[tuple[str, int], ...] = ((CALLS, 32), (RESOLVER, 32), (_ALL, 0))
"""The networks that an app reaches through the router. The longest prefix decides, so these do not conflict with
:data:`CLOSED`. An app waits for the last one, the default route, at its start (flyted/launch/network.py); one that
reaches nothing but apps has only the first."""
CLOSED: tuple[tuple[str, int], ...] = (
    (_ALL, 8),
    ("169.254.0.0", 16),
    ("168.63.129.16", 32),
    ("100.100.100.200", 32),
    ("224.0.0.0", 4),
    ("255.255.255.255", 32),
    ("198.18.0.0", 15),  # other apps, and what is between the router and slirp4netns
)
"""The networks that no app may reach: the IPv4 networks of ``CLOSED_NETWORKS`` (flyted/plan/sandbox.py, which says
why) without the loopback, which is the app's own; and the network of apps itself."""
CONNECTIONS = 1024
"""The number of connections that an app may have at once through the router, and as many to apps: slirp4netns goes
through all connections of all apps in turn, and the ingress has places for all apps together."""

UNCALLED = 16
"""The number of connections to apps that others may have, which the ingress refuses: apps that call none, and steps of
images. They take places from those that may call."""


def port(number: int) -> str:
    """Return the name of the bridge's port for app ``number``."""
    return f"p{number}"


def address(number: int) -> str:
    """Return the IPv4 address of app ``number``."""
    return f"198.18.{number >> 8}.{number & 255}"


def number(text: str) -> int:
    """Return the number of the app that has this IPv4 address; 0 for an address that no app can have."""
    first, second, high, low = text.split(".")
    found = int(high) << 8 | int(low)
    is_app = FIRST <= found <= LAST or FIRST_CALLER <= found <= LAST_CALLER
    return found if (first, second) == ("198", "18") and is_app else 0


def candidates(first: int) -> list[int]:
    """Return all numbers of apps, each once, in order and round, beginning with the one that ``first`` picks."""
    count = LAST - FIRST + 1
    return [FIRST + (first + step) % count for step in range(count)]


def rules() -> str:
    """Return the router's rules for nft(8): they let connections out, answers back, and nothing else.

    No frame goes from one port of the bridge to another: only connections to :data:`CALLS` are routed between two of
    them. An incoming packet must have the source address that belongs
    to its port: a program may send from any address (``IP_FREEBIND``), and the answers would reach another app. A
    packet to a closed network is rejected, not dropped, so that its sender gets an error.
    """
    closed = ", ".join(f"{target}/{prefix}" for target, prefix in CLOSED)
    no = "reject with icmp type admin-prohibited"
    numbers = (*range(FIRST, LAST + 1), *range(FIRST_CALLER, LAST_CALLER + 1))
    pairs = ", ".join([f'"{CALLS_LINK}" . {CALLS}', *(f'"{port(n)}" . {address(n)}' for n in numbers)])
    return f"""
table bridge flyted {{
    set owners {{ type ifname . ipv4_addr; elements = {{ {pairs} }}; }}
    chain forward {{ type filter hook forward priority 0; policy drop; }}
    chain input {{
        type filter hook input priority 0; policy drop;
        ether type arp accept
        ether type ip iifname . ip saddr @owners accept
    }}
}}
table ip flyted {{
    set flows {{ type ipv4_addr; size 4096; flags dynamic; }}
    set others {{ type ipv4_addr; size 4096; flags dynamic; }}
    set calls {{ type ipv4_addr; size 4096; flags dynamic; }}
    set closed {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {closed} }}; }}
    chain input {{
        type filter hook input priority 0; policy drop;
        meta l4proto icmp accept
        iifname "{BRIDGE}" {no}
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "{BRIDGE}" ip saddr {CALLS} {no}
        iifname "{BRIDGE}" ip daddr {CALLS} tcp dport {CALLS_PORT} jump to_apps
        iifname "{BRIDGE}" ip saddr {CLOSED_CALLERS} {no}
        iifname "{BRIDGE}" ip daddr @closed ip daddr != {RESOLVER} {no}
        iifname "{BRIDGE}" oifname "{OUT}" add @flows {{ ip saddr ct count over {CONNECTIONS} }} reject
        iifname "{BRIDGE}" oifname "{OUT}" accept
    }}
    chain to_apps {{
        ip saddr != {{ {CALLERS} }} add @others {{ ip saddr ct count over {UNCALLED} }} reject
        add @calls {{ ip saddr ct count over {CONNECTIONS} }} reject
        accept
    }}
    chain postrouting {{
        type nat hook postrouting priority 100;
        oifname "{OUT}" masquerade
    }}
}}
"""
