"""The router: the one place that all apps' cables lead to, in the network namespace that pasta made for this process.

pasta (passt(1)) carries what leaves here as ordinary connections of an ordinary user. So nothing of the machine's own
network is changed: no forwarding, no rule of nftables, no address.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from flyted.net import plan
from flyted.net.netlink import Failed, Netlink

HOLD = "/usr/bin/sleep"
"""What the process becomes when all is set: a namespace lives as long as somebody is in it."""
_FORWARDING = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
_NFT = "/usr/sbin/nft"
_PATIENCE_S = 10.0


def run() -> None:
    """Sets the router up, tells systemd, and stays as a process that does nothing. Raises :class:`Failed`."""
    _await(plan.OUT)
    for path in _FORWARDING:
        _switch_on(Path(path))
    done = subprocess.run([_NFT, "-f", "-"], input=plan.rules(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"nft: {done.stderr.strip().splitlines()[0] if done.stderr.strip() else done.returncode}")
    netlink = Netlink()
    netlink.bridge(plan.BRIDGE, plan.BRIDGE_INDEX, plan.MTU)
    netlink.address(plan.BRIDGE, plan.ROUTER4, plan.PREFIX4)
    if Path("/proc/sys/net/ipv6").exists():
        netlink.address(plan.BRIDGE, plan.ROUTER6, plan.PREFIX6)
    _ready()
    os.execv(HOLD, [HOLD, "infinity"])  # noqa: S606


def _switch_on(path: Path) -> None:
    """Of this namespace alone; IPv6 may be off."""
    try:
        path.write_text("1\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error


def _await(link: str) -> None:
    """pasta starts this process before its interface is there."""
    end = time.monotonic() + _PATIENCE_S
    while link not in {name for _index, name in socket.if_nameindex()}:
        if time.monotonic() > end:
            raise Failed("pasta has made no interface")
        time.sleep(0.01)


def _ready() -> None:
    """sd_notify(3)."""
    where = os.environ.pop("NOTIFY_SOCKET", "")
    if not where:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(b"READY=1\nSTATUS=the way out is open", "\0" + where[1:] if where[0] == "@" else where)
