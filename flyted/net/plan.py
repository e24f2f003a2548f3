"""The numbers of the network: which app has which address, and what the router lets through. Pure.

Apps have addresses of 198.18.0.0/15, set aside for benchmarks (RFC 2544), which are on no network that a machine is
really connected to, and of a unique local IPv6 prefix (RFC 4193). They are seen inside these namespaces only.
"""

from __future__ import annotations

from collections.abc import Iterator

BRIDGE, BRIDGE_INDEX = "apps", 1000  # the index is asked for, so that a cable can name it from outside
OUT = "out"  # pasta's interface, the only way on
INSIDE = "eth0"  # what an app sees
MTU = 65520  # as pasta's interface: nothing here is a wire
FIRST, LAST = 2, 1022  # a bridge has at most 1023 ports (linux/net/bridge/br_private.h: BR_MAX_PORTS)
PREFIX4, PREFIX6 = 22, 64
ROUTER4, ROUTER6 = "198.18.0.1", "fd8f:b5a1:7c3e::1"
RESOLVER = "198.19.0.53"
"""Where apps ask for names if the machine's own resolver is on its loopback; units/flyted-net.service has it too."""
CONNECTIONS = 8192
"""How many connections an app may have at once through the router: pasta holds 128 Ki for all (flow.h: FLOW_MAX)."""


def port(number: int) -> str:
    """The bridge's port of app ``number``."""
    return f"p{number}"


def address4(number: int) -> str:
    """An app's IPv4 address."""
    return f"198.18.{number >> 8}.{number & 255}"


def address6(number: int) -> str:
    """An app's IPv6 address."""
    return f"fd8f:b5a1:7c3e::{number:x}"


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
    pairs4 = ", ".join(f'"{port(n)}" . {address4(n)}' for n in range(FIRST, LAST + 1))
    pairs6 = ", ".join(f'"{port(n)}" . {address6(n)}' for n in range(FIRST, LAST + 1))
    return f"""
table bridge flyted {{
    set owners4 {{ type ifname . ipv4_addr; elements = {{ {pairs4} }}; }}
    set owners6 {{ type ifname . ipv6_addr; elements = {{ {pairs6} }}; }}
    chain forward {{ type filter hook forward priority 0; policy drop; }}
    chain input {{
        type filter hook input priority 0; policy drop;
        ether type arp accept
        ether type ip iifname . ip saddr @owners4 accept
        ether type ip6 iifname . ip6 saddr @owners6 accept
        ether type ip6 ip6 saddr fe80::/10 icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    }}
}}
table inet flyted {{
    set flows4 {{ type ipv4_addr; size 4096; flags dynamic; }}
    set flows6 {{ type ipv6_addr; size 4096; flags dynamic; }}
    chain input {{
        type filter hook input priority 0; policy drop;
        meta l4proto {{ icmp, ipv6-icmp }} accept
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "{BRIDGE}" oifname "{OUT}" jump new
    }}
    chain new {{
        ip saddr != 0.0.0.0 add @flows4 {{ ip saddr ct count over {CONNECTIONS} }} reject
        ip6 saddr != :: add @flows6 {{ ip6 saddr ct count over {CONNECTIONS} }} reject
        accept
    }}
    chain postrouting {{
        type nat hook postrouting priority 100;
        oifname "{OUT}" masquerade
    }}
}}
"""
