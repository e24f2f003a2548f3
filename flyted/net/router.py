"""Runs the router, which connects the veth pairs of all apps to the outside, in its own namespaces (``egress.py``)."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from flyted.base import sd
from flyted.net import plan
from flyted.net.netlink import Failed, Netlink

_SETTINGS = {
    "ip_forward": "1",
    # an app's packets to CALLS come and go by the bridge: it would be told a shorter way, which the bridge drops
    "conf/all/send_redirects": "0",
    "conf/default/send_redirects": "0",
}
_IPV4 = Path("/proc/sys/net/ipv4")
_NFT = "/usr/sbin/nft"
_TIMEOUT_S = 10.0


def run() -> None:
    """Set the router up, notify systemd, and become a process that does nothing but hold the namespace.

    The bridge is made last: no app can be connected before the rules are in place. Raises :class:`Failed`.
    """
    _await(plan.OUT)
    for name, value in _SETTINGS.items():
        try:
            (_IPV4 / name).write_text(f"{value}\n")  # of this namespace alone
        except OSError as error:
            raise Failed(f"{_IPV4 / name}: {error.strerror}") from error
    done = subprocess.run([_NFT, "-f", "-"], input=plan.rules(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"nft: {done.stderr.strip().splitlines()[0] if done.stderr.strip() else done.returncode}")
    netlink = Netlink()
    netlink.bridge(plan.BRIDGE, plan.BRIDGE_INDEX, plan.MTU, plan.STATION)
    netlink.address(plan.BRIDGE, plan.ROUTER, plan.PREFIX)
    if not sd.notify(f"READY=1\nSTATUS={plan.STATUS}"):
        raise Failed("cannot notify systemd that the router is ready")
    os.execv(plan.HOLD, [plan.HOLD, "infinity"])  # noqa: S606


def _await(link: str) -> None:
    """Wait for slirp4netns' interface: slirp4netns starts after this process.

    Raises :class:`Failed` when it is not there in time.
    """
    end = time.monotonic() + _TIMEOUT_S
    while link not in {name for _index, name in socket.if_nameindex()}:
        if time.monotonic() > end:
            raise Failed("slirp4netns created no interface")
        time.sleep(0.01)
