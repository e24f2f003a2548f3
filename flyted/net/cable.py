"""The cable of one app: from the namespace that systemd made for it to the router's.

Runs in the app's namespace with CAP_NET_ADMIN and nothing else, and ends; cable and address go with the namespace.
"""

from __future__ import annotations

import os

from flyted.net import plan
from flyted.net.netlink import Exists, Failed, Netlink
from flyted.net.notify import tell

ROUTER = "flyted-net.service"  # contract/names.py: WAY_OUT
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")  # cgroups(7): v2, hybrid, v1
_SLIRP = "slirp4netns"
_END = "cable"


def run() -> None:
    """Plugs the app in; the unit's status then says which address it has. Raises :class:`Failed`."""
    number = plug(Netlink(), router(), int.from_bytes(os.urandom(4), "little"))
    tell(f"STATUS={plan.address(number)}")


def plug(netlink: Netlink, pid: int, first: int) -> int:
    """Lays the cable to the namespace of process ``pid``, on a port that nobody has; the app's number.

    ``first``: which number is tried first.
    """
    netlink.pair(plan.INSIDE, _END, plan.MTU)
    number = _take_port(netlink, pid, first)
    netlink.no_ipv6(plan.INSIDE)
    netlink.up(plan.INSIDE)
    netlink.address(plan.INSIDE, plan.address(number), 32)
    netlink.route(plan.ROUTER, 32, link=plan.INSIDE)
    for target, prefix in plan.OPEN:
        netlink.route(target, prefix, link=plan.INSIDE, gateway=plan.ROUTER)
    for target, prefix in plan.CLOSED:
        netlink.prohibit(target, prefix)
    return number


def _take_port(netlink: Netlink, pid: int, first: int) -> int:
    """The kernel allocates: a link cannot move to where another one has its name, and then nothing has happened."""
    name = _END
    for number in plan.candidates(first):
        netlink.rename(name, plan.port(number))
        name = plan.port(number)
        try:
            netlink.hand_over(name, pid, plan.BRIDGE_INDEX)
        except Exists:
            continue
        return number
    raise Failed(f"there is no address left: {plan.LAST - plan.FIRST + 1} apps have one")


def router() -> int:
    """The process that holds the router's namespace, found in the cgroup of its unit, a neighbour of ours."""
    for line in _read("/proc/self/cgroup").splitlines():
        path = line.split(":", 2)[2].rpartition("/")[0]
        for root in _CGROUPS:
            listed = f"{root}{path}/{ROUTER}/cgroup.procs"
            if os.path.exists(listed):
                return _holder(_read(listed).split())
    raise Failed(f"{ROUTER} does not run")


def _holder(pids: list[str]) -> int:
    for pid in pids:
        if not _read(f"/proc/{pid}/comm").startswith(_SLIRP):
            return int(pid)
    raise Failed(f"{ROUTER} has no process that holds its network")


def _read(path: str) -> str:
    """Not with pathlib, whose import takes longer than all the work here."""
    with open(path) as file:
        return file.read()
