"""The numbers of the network: addresses, where apps may go, and what the router lets through. Pure.

Apps have addresses of 198.18.0.0/15, set aside for benchmarks (RFC 2544), which are on no network that a machine is
really connected to. They are seen inside these namespaces only. There is no IPv6: an app that tries it hears at once.

What is closed is refused by a route of the app's own namespace, which the app cannot change: the call fails at once,
and says that it is a matter of permission. The router and the units' ``IPAddressDeny=`` are behind it.
"""

from __future__ import annotations

BRIDGE, BRIDGE_INDEX = "apps", 1000  # the index is asked for, so that a cable can name it from outside
OUT = "out"  # slirp4netns' interface, the only way on
INSIDE = "eth0"  # what an app sees
LOOPBACK = "lo"  # where an app's address stands too, so that it stays when the cable goes
HOLD = "/usr/bin/sleep"
"""What holds the router's namespace: a namespace lives as long as somebody is in it."""
WINDOW, HEADERS = 65535, 40  # libslirp's largest window, since it does not scale it; of IPv4 and TCP
MTU = WINDOW // 3 + HEADERS
"""The largest with which no upload stalls: libslirp says that its window has grown when two segments more fit into it.
A sender that is left less than one segment waits for that, and it has to come before the window is full: with larger
segments the sender asks by itself, after 0.2 s. Nothing here is a wire."""
FIRST, LAST = 2, 1022  # a bridge has at most 1023 ports (linux/net/bridge/br_private.h: BR_MAX_PORTS)
PREFIX, ROUTER = 22, "198.18.0.1"
OUTSIDE = "198.19.0.0/24"
RESOLVER = "198.19.0.3"
"""Where apps ask for names if the machine's own resolver is on its loopback: slirp4netns, the third address of its
network (slirp4netns(1), "--cidr"), asks that one."""
_ALL = "0.0.0.0"  # noqa: S104  a network, nothing listens there
OPEN: tuple[tuple[str, int], ...] = ((RESOLVER, 32), (_ALL, 0))
"""Where an app's packets go on from the router. An address decides by the longest prefix, so these two stand beside
:data:`CLOSED`. The last one is what an app waits for at its start (flyted/launch/network.py)."""
CLOSED: tuple[tuple[str, int], ...] = (
    (_ALL, 8),
    ("169.254.0.0", 16),
    ("168.63.129.16", 32),
    ("100.100.100.200", 32),
    ("224.0.0.0", 4),
    ("255.255.255.255", 32),
    ("198.18.0.0", 15),  # other apps, and what is between the router and slirp4netns
)
"""The IPv4 networks of ``CLOSED_NETWORKS`` (flyted/plan/sandbox.py), which says why, without the loopback, which is
the app's own; and ours."""
CONNECTIONS = 1024
"""How many connections an app may have at once through the router: slirp4netns looks at all of everybody's in turn."""


def port(number: int) -> str:
    """The bridge's port of app ``number``."""
    return f"p{number}"


def address(number: int) -> str:
    """An app's IPv4 address."""
    return f"198.18.{number >> 8}.{number & 255}"


def number(text: str) -> int:
    """Whose address this is; 0 if it is no app's."""
    first, second, high, low = text.split(".")
    return int(high) << 8 | int(low) if (first, second) == ("198", "18") else 0


def candidates(first: int) -> list[int]:
    """All numbers, each once, in order and round from the one that ``first`` stands for."""
    count = LAST - FIRST + 1
    return [FIRST + (first + step) % count for step in range(count)]


def rules() -> str:
    """The router's rules, for nft(8): out, back, and nothing else.

    No frame goes from one port of the bridge to another. What comes in must have the address that belongs to its
    port: a program may send from any it likes (``IP_FREEBIND``), and the answers would reach another app. What is
    closed hears so.
    """
    closed = ", ".join(f"{target}/{prefix}" for target, prefix in CLOSED)
    no = "reject with icmp type admin-prohibited"
    pairs = ", ".join(f'"{port(n)}" . {address(n)}' for n in range(FIRST, LAST + 1))
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
    set closed {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {closed} }}; }}
    chain input {{
        type filter hook input priority 0; policy drop;
        meta l4proto icmp accept
        iifname "{BRIDGE}" {no}
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "{BRIDGE}" ip daddr @closed ip daddr != {RESOLVER} {no}
        iifname "{BRIDGE}" oifname "{OUT}" add @flows {{ ip saddr ct count over {CONNECTIONS} }} reject
        iifname "{BRIDGE}" oifname "{OUT}" accept
    }}
    chain postrouting {{
        type nat hook postrouting priority 100;
        oifname "{OUT}" masquerade
    }}
}}
"""
