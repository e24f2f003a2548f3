"""The cable of one app: from the namespace that systemd made for it to the router's.

Runs in the app's namespace with CAP_NET_ADMIN and nothing else, and ends; cable and address go with the namespace.
When the router has gone, and the cable with it, it runs again, in the same namespace, while the app goes on.
"""

from __future__ import annotations

import itertools
import os
import time

from flyted.net import plan
from flyted.net.netlink import Exists, Failed, Netlink
from flyted.net.notify import tell

ROUTER = "flyted-net.service"  # contract/names.py: WAY_OUT
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")  # cgroups(7): v2, hybrid, v1
_TRIE = "/proc/self/net/fib_trie"  # each address after "|--", and then what it is: "/32 host LOCAL", say
_END = "cable"
_LOOKS, _LOOK_S = 100, 0.01


def run() -> None:
    """Plugs the app in; the unit's status then says which address it has. Raises :class:`Failed`."""
    number = plug(Netlink(), router(), int.from_bytes(os.urandom(4), "little"))
    tell(f"STATUS={plan.address(number)}")


def plug(netlink: Netlink, pid: int, first: int) -> int:
    """Lays the cable to the namespace of process ``pid``, on a port that nobody has; the app's number.

    ``first``: which number is tried first, unless the app has had one. What is closed is closed before there is a way
    out, and the way out is the last step.
    """
    before = _before()
    netlink.remove(plan.INSIDE)  # to a router that has gone
    for target, prefix in plan.CLOSED:
        netlink.prohibit(target, prefix)
    netlink.pair(plan.INSIDE, _END, plan.MTU)
    number = _take_port(netlink, pid, before - plan.FIRST if before else first)
    _keep(netlink, before, number)
    netlink.no_ipv6(plan.INSIDE)
    netlink.up(plan.INSIDE)
    netlink.address(plan.INSIDE, plan.address(number), 32)
    netlink.route(plan.ROUTER, 32, link=plan.INSIDE)
    for target, prefix in plan.OPEN:
        netlink.route(target, prefix, link=plan.INSIDE, gateway=plan.ROUTER)
    return number


def _before() -> int:
    """The app's number so far, by its address; 0 if it has had none."""
    words = _words(_TRIE)
    number = 0
    for mark, word in itertools.pairwise(words):
        if mark == "|--":
            address = word
        elif (mark, word) == ("host", "LOCAL"):
            number = plan.number(address) or number
    return number


def _keep(netlink: Netlink, before: int, number: int) -> None:
    """Has the address on the loopback too: without a cable what an app sends to itself there still arrives."""
    if before == number:
        return
    if before:
        netlink.no_address(plan.LOOPBACK, plan.address(before), 32)
    netlink.address(plan.LOOPBACK, plan.address(number), 32)


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
    """The process that holds the router's namespace, found in the cgroup of its unit, a neighbour of ours.

    It says that it is ready just before it is; and nothing else there will do: a process that has not entered its
    namespace yet is in the machine's.
    """
    for _look in range(_LOOKS):
        for pid in _listed():
            if _words(f"/proc/{pid}/comm") == [os.path.basename(plan.HOLD)]:
                return int(pid)
        time.sleep(_LOOK_S)
    raise Failed(f"{ROUTER} does not run")


def _listed() -> list[str]:
    own = [line.split(":", 2)[2].rpartition("/")[0] for line in _words("/proc/self/cgroup")]
    return [pid for root in _CGROUPS for path in own for pid in _words(f"{root}{path}/{ROUTER}/cgroup.procs")]


def _words(path: str) -> list[str]:
    """What a file of the kernel says; nothing where what it tells of has ended. pathlib's import would be slow."""
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:
        return []
