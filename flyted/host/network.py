"""Reports the machine's network: its name servers, listening sockets and addresses."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")
HOSTS = Path("/etc/hosts")
_PROC = Path("/proc/net")
_NAMESERVER = re.compile(r"^[ \t]*nameserver[ \t]+([0-9A-Fa-f:.]+)", re.MULTILINE)


def nameservers(path: Path = RESOLV_CONF) -> tuple[str, ...]:
    """Return the name servers of a resolv.conf(5), each once, without entries that are not addresses."""
    return tuple(dict.fromkeys(text for text in _NAMESERVER.findall(_text(path)) if _is_address(text)))


def hosts() -> str:
    """Return the text of the machine's /etc/hosts, "" if there is none."""
    return _text(HOSTS)


def circumstances() -> str:
    """Return what decides where the machine's connections go: its name servers and routes, as text."""
    return _text(RESOLV_CONF) + _text(_PROC / "route")


def tcp_sockets() -> tuple[str, str]:
    """Return the kernel's tables of TCP sockets over IPv4 and IPv6 (Linux' proc_net_tcp.rst), as text."""
    return _text(_PROC / "tcp"), _text(_PROC / "tcp6")


def addresses_ipv6() -> str:
    """Return the kernel's table of IPv6 addresses (/proc/net/if_inet6), as text; "" without IPv6."""
    return _text(_PROC / "if_inet6")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
