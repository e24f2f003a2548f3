"""Runs the egress of apps: slirp4netns(1) for the router, in user and network namespaces that the unit's user creates.

slirp4netns carries what leaves the router as ordinary connections of an ordinary user. So nothing in the machine's own
network is changed: no forwarding, no nftables rule, no address; and no process needs a capability in the machine.
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
        launch = [sys.executable, "-I", "-S", str(Path(__file__).with_name("__main__.py")), "router"]
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
