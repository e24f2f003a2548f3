"""The numbers of the network: which app has which address, and what the router lets through. Pure.

Apps have addresses of 198.18.0.0/15, set aside for benchmarks (RFC 2544), which are on no network that a machine is
really connected to. They are seen inside these namespaces only. There is no IPv6: an app that tries it hears at once.
"""

from __future__ import annotations

from collections.abc import Iterator

BRIDGE, BRIDGE_INDEX = "apps", 1000  # the index is asked for, so that a cable can name it from outside
OUT = "out"  # slirp4netns' interface, the only way on
INSIDE = "eth0"  # what an app sees
MTU = 65520  # nothing here is a wire
FIRST, LAST = 2, 1022  # a bridge has at most 1023 ports (linux/net/bridge/br_private.h: BR_MAX_PORTS)
PREFIX, ROUTER = 22, "198.18.0.1"
OUTSIDE = "198.19.0.0/24"
RESOLVER = "198.19.0.3"
"""Where apps ask for names if the machine's own resolver is on its loopback: slirp4netns, the third address of its
network (slirp4netns(1), "--cidr"), asks that one."""
CONNECTIONS = 1024
"""How many connections an app may have at once through the router: slirp4netns looks at all of everybody's in turn."""


def port(number: int) -> str:
    """The bridge's port of app ``number``."""
    return f"p{number}"


def address(number: int) -> str:
    """An app's IPv4 address."""
    return f"198.18.{number >> 8}.{number & 255}"


def candidates(name: str) -> Iterator[int]:
    """All numbers, from one that depends on the app's name: the first that nobody has is taken."""
    count = LAST - FIRST + 1
    start = sum(byte * 31**place for place, byte in enumerate(name.encode())) % count
    return (FIRST + (start + step) % count for step in range(count))


def rules() -> str:
    """The router's rules, for nft(8): out, back, and nothing else.

    No frame goes from one port of the bridge to another. What comes in must have the address that belongs to its
    port: a program may send from any it likes (``IP_FREEBIND``), and the answers would reach another app.
    """
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
    chain input {{
        type filter hook input priority 0; policy drop;
        meta l4proto icmp accept
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "{BRIDGE}" oifname "{OUT}" add @flows {{ ip saddr ct count over {CONNECTIONS} }} reject
        iifname "{BRIDGE}" oifname "{OUT}" accept
    }}
    chain postrouting {{
        type nat hook postrouting priority 100;
        oifname "{OUT}" masquerade
    }}
}}
"""
