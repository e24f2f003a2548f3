"""Runs the egress of apps: slirp4netns(1) for the router, in user and network namespaces that the unit's user creates.

slirp4netns carries what leaves the router as ordinary connections of an ordinary user. So nothing in the machine's own
network is changed: no forwarding, no nftables rule, no address; and no process needs a capability in the machine.

one unit, one user,                                flyted-net.service
one network namespace                             +------------------------------------+
  the app -- eth0 -- veth ------------------------+> router -> slirp4netns -> the world |
          flyted-net@REPLICA.service holds it     +------------------------------------+

One router behind one slirp4netns serves all apps: 2 MB once, and no process per app. One process per app would need
CAP_SYS_ADMIN on the machine to enter each namespace. pasta (Debian 13) stalled under load, at 0.01 to 0.5 Gbit/s with
retransmissions, and takes 16 MB; slirp4netns sends 2 and receives 3 Gbit/s (measured side by side). A veth pair with
masquerading is faster, but needs IP forwarding on the machine, and rules that those of Docker or ufw override. So
nothing in the machine's network (Docker, ufw, firewalld, ``ip_forward=0``) interferes.

The price: a round trip to a database takes about 60 us more than from the machine's own network, and about 100 us of
slirp4netns's CPU time (measured, 30 -> 95 us); all apps share that one processor. The MTU (``plan.py``) costs
slirp4netns a fifth more CPU time for sending than the largest one, none for receiving; of 30 uploads of 8 MB to a
slower server, 33 stalled with an MTU of 65,520, 2 do now, and 24,000 is already too large. What would change this
decision: apps that need more than a few Gbit/s or 10,000 queries a second, or IPv6.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from flyted.net import plan
from flyted.net.netlink import Failed

_UNSHARE, _SLIRP = "/usr/bin/unshare", "/usr/bin/slirp4netns"
_TIMEOUT_S = 10.0


def run() -> None:
    """Start the router in new namespaces, and become slirp4netns for them.

    Raises :class:`Failed`.
    """
    watched, held = os.pipe()  # the router holds one end: when it ends, slirp4netns ends as well
    router = os.fork()
    if router == 0:
        os.set_inheritable(held, True)  # noqa: FBT003
        launch = [sys.executable, "-IS", str(Path(__file__).with_name("__main__.py")), "router"]
        os.execv(_UNSHARE, [_UNSHARE, "--user", "--map-root-user", "--net", *launch])  # noqa: S606
    os.close(held)
    _await(router)
    os.set_inheritable(watched, True)  # noqa: FBT003
    options = ["--configure", f"--mtu={plan.MTU}", f"--cidr={plan.OUTSIDE}", "--disable-host-loopback"]
    options += ["--enable-sandbox", "--enable-seccomp", f"--exit-fd={watched}", str(router), plan.OUT]
    os.execv(_SLIRP, [_SLIRP, *options])  # noqa: S606


def _await(pid: int) -> None:
    """Wait until the process is in a network namespace of its own, and root there.

    Raises :class:`Failed` when it cannot be, or not in time.
    """
    own = Path("/proc/self/ns/net").stat().st_ino
    end = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < end:
        try:
            apart = Path(f"/proc/{pid}/ns/net").stat().st_ino != own
            if apart and Path(f"/proc/{pid}/uid_map").read_text().split():
                return
        except OSError:  # /proc refuses while the process becomes another user
            pass
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise Failed("unprivileged users cannot create user namespaces (run unshare(1) to see why)")
        time.sleep(0.005)
    raise Failed("unshare cannot create namespaces")
