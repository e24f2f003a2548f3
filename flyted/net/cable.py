"""The cable of one app: from the namespace that systemd made for it to the router's.

Runs in the app's namespace with CAP_NET_ADMIN and nothing else, and ends; cable and address go with the namespace.
"""

from __future__ import annotations

import os
from pathlib import Path

from flyted.net import plan
from flyted.net.netlink import Exists, Failed, Netlink

ROUTER = "flyted-net.service"  # contract/names.py: WAY_OUT
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")  # cgroups(7): v2, hybrid, v1
_SLIRP = "slirp4netns"
_END = "cable"


def run() -> None:
    """Plugs the app in; its name is ``$FLYTED_APP``. Raises :class:`Failed`."""
    plug(Netlink(), os.environ.get("FLYTED_APP", ""), router())


def plug(netlink: Netlink, name: str, pid: int) -> int:
    """Lays the cable to the namespace of process ``pid``; the app's number."""
    netlink.pair(plan.INSIDE, _END, plan.MTU)
    number = _port(netlink, name, pid)
    netlink.up(plan.INSIDE)
    netlink.address(plan.INSIDE, plan.address(number), plan.PREFIX)
    netlink.default_route(plan.INSIDE, plan.ROUTER)
    return number


def _port(netlink: Netlink, name: str, pid: int) -> int:
    """The kernel decides between two that want the same port: no two links of a namespace have one name."""
    for number in plan.candidates(name):
        try:
            netlink.hand_over(_END, pid, plan.port(number), plan.BRIDGE_INDEX)
        except Exists:
            continue
        return number
    raise Failed(f"there is no address left: {plan.LAST - plan.FIRST + 1} apps have one")


def router() -> int:
    """The process that holds the router's namespace, found in the cgroup of its unit, a neighbour of ours."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        path = line.split(":", 2)[2].rpartition("/")[0]
        for root in _CGROUPS:
            listed = Path(f"{root}{path}/{ROUTER}/cgroup.procs")
            if listed.exists():
                return _holder(listed.read_text().split())
    raise Failed(f"{ROUTER} does not run")


def _holder(pids: list[str]) -> int:
    for pid in pids:
        if not Path(f"/proc/{pid}/comm").read_text().startswith(_SLIRP):
            return int(pid)
    raise Failed(f"{ROUTER} has no process that holds its network")
