"""Connects an app to the router by a veth(4) pair between the network namespaces of both. systemd made the app's.

The command runs in the app's namespace, with no capability but CAP_NET_ADMIN, and ends; pair and address disappear
with the namespace. When the router ends, each pair ends with it: the command runs again, in the same namespace, while
the app keeps running.

The unit of this command and the app's unit start at the same time, and either may create the namespace
(``PrivateNetwork=``, ``JoinsNamespaceOf=``), so a wake needs no flyted. ``launch`` waits for the default route before
the app's code runs: 0.6 ms at a first start (measured, median), since its own start takes longer than that of this
command, which needs 46 ms of a processor (32 of them for systemd's sandbox). At a wake the route exists. systemd
shares all namespaces of a unit or none, so the app's /tmp and IPC are created by ``flyted-net@`` too: without that an
app would have the machine's. They outlive a sleep.

When the router ends (killed, or restarted for an upgrade of slirp4netns), apps keep running. systemd restarts it
within 1.5 s and, by ``PartOf=``, then each app's network unit, which connects the existing namespace again, under the
address that the app had. The loopback has that address too, so traffic between the parts of an engine continues
meanwhile. Connections through the old router are lost; forbidden destinations stay closed, by routes that do not
depend on the veth pair.

The kernel allocates the addresses: one end of the pair moves into the router's namespace under a name that stands for
the address, which fails while another link has that name; then the next one is tried. So nothing has to be remembered
or agreed on, also at a reboot without the daemon. The unit's status contains the address.

By its address the ingress knows an app that calls others. So flyted gives it one (:data:`GIVEN`), and the app gets
that one or none.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterable

from flyted.base import sd
from flyted.net import plan
from flyted.net.netlink import Exists, Failed, Netlink

ROUTER = "flyted-net.service"  # contract/names.py: EGRESS_UNIT
GIVEN = "/run/flyted/calls"
"""The folder in which flyted keeps the number of each replica that calls other apps (flyted/host/addresses.py)."""
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")  # cgroups(7): v2, hybrid, v1
_TRIE = "/proc/self/net/fib_trie"  # each address follows "|--", its kind follows it: "/32 host LOCAL", for example
_END = "veth"
_LOOKS, _LOOK_S = 100, 0.01
_FIRST_FREE_PORT = "/proc/sys/net/ipv4/ip_unprivileged_port_start"  # of IPv6 too; each namespace has its own


def run(replica: str) -> None:
    """Connect the app to the router, and put its address into the unit's status.

    ``replica``: the name of the app's replica. Raises :class:`Failed`.
    """
    open_low_ports()
    number = connect(Netlink(), router(), int.from_bytes(os.urandom(4), "little"), given=_given(replica))
    if not sd.notify(f"STATUS={plan.address(number)}"):
        raise Failed("cannot notify systemd of the address")


def run_calls() -> None:
    """Connect the namespace in which the ingress answers apps to the router, if that runs. Raises :class:`Failed`."""
    if not _listed():
        return  # its start runs this again
    netlink = Netlink()
    netlink.remove(plan.INSIDE)
    netlink.pair(plan.INSIDE, plan.CALLS_LINK, plan.MTU)
    netlink.hand_over(plan.CALLS_LINK, router(), plan.BRIDGE_INDEX)
    _up(netlink, plan.CALLS)
    netlink.route(plan.APPS, plan.PREFIX, link=plan.INSIDE, gateway=plan.ROUTER)


def _given(replica: str) -> int:
    """Return the number that flyted gave the replica; 0 if it gave none, since the app calls no other."""
    words = _words(f"{GIVEN}/{replica}.number")
    if not words:
        return 0
    number = int(words[0]) if words[0].isascii() and words[0].isdigit() else 0
    if not plan.FIRST_CALLER <= number <= plan.LAST_CALLER:
        raise Failed(f"{GIVEN}/{replica}.number is not valid")
    return number


def open_low_ports() -> None:
    """Let the app listen on ports below 1024 too: they are its own, as all others. An app waits for :func:`connect`.

    Where /proc/sys cannot be written, as in some containers, the app's call to open such a port fails.
    """
    try:
        with open(_FIRST_FREE_PORT, "w") as file:
            file.write("0")
    except OSError as error:
        sys.stderr.write(f"flyted-net: ports below 1024 stay closed: {_FIRST_FREE_PORT}: {error.strerror}\n")


def connect(netlink: Netlink, pid: int, first: int, *, given: int = 0) -> int:
    """Connect to the namespace of process ``pid``, on a free port of the bridge, and return the app's number.

    ``first``: any integer; it picks the number that is tried first, unless the app has had one. ``given``: the only
    number that will do. Networks that apps may not reach are closed before any route is added; the default route is
    the last step. Raises :class:`Failed`.
    """
    before = _before()
    netlink.remove(plan.INSIDE)  # a pair to a router that has ended
    for target, prefix in plan.CLOSED:
        netlink.prohibit(target, prefix)
    netlink.pair(plan.INSIDE, _END, plan.MTU)
    numbers = [given] if given else plan.candidates(before - plan.FIRST if before else first)
    number = _take_port(netlink, pid, numbers)
    _keep(netlink, before, number)
    _up(netlink, plan.address(number))
    for target, prefix in plan.OPEN[:1] if number >= plan.FIRST_CLOSED else plan.OPEN:
        netlink.route(target, prefix, link=plan.INSIDE, gateway=plan.ROUTER)
    return number


def _up(netlink: Netlink, address: str) -> None:
    """Set the pair's inner end up with its address, and make the router its only neighbour."""
    netlink.no_ipv6(plan.INSIDE)
    netlink.up(plan.INSIDE)
    netlink.address(plan.INSIDE, address, 32)
    netlink.route(plan.ROUTER, 32, link=plan.INSIDE)


def _before() -> int:
    """Return the number that the app has had so far, by its address; 0 if it has had none."""
    words = _words(_TRIE)
    number = 0
    for mark, word in itertools.pairwise(words):
        if mark == "|--":
            address = word
        elif (mark, word) == ("host", "LOCAL"):
            number = plan.number(address) or number
    return number


def _keep(netlink: Netlink, before: int, number: int) -> None:
    """Give the loopback the app's address too, so that what an app sends itself there arrives without the pair."""
    if before == number:
        return
    if before:
        netlink.no_address(plan.LOOPBACK, plan.address(before), 32)
    netlink.address(plan.LOOPBACK, plan.address(number), 32)


def _take_port(netlink: Netlink, pid: int, numbers: Iterable[int]) -> int:
    """Move the pair's other end to the bridge, as the first port that is free, and return the app's number.

    The kernel allocates the ports: a link cannot move to a namespace in which another link has its name, and a move
    that fails changes nothing. Raises :class:`Failed` when all are taken.
    """
    name, number = _END, 0
    for number in numbers:
        netlink.rename(name, plan.port(number))
        name = plan.port(number)
        try:
            netlink.hand_over(name, pid, plan.BRIDGE_INDEX)
        except Exists:
            continue
        return number
    if number >= plan.FIRST_CALLER:
        raise Failed(f"{plan.address(number)}, which flyted gave this app, is another one's still")
    raise Failed(f"no address is left: {plan.LAST - plan.FIRST + 1} apps have one")


def router() -> int:
    """Return the PID of the process that holds the router's namespace, from the cgroup of the router's unit.

    That cgroup is a sibling of this unit's. The router says ``READY=1`` just before it becomes this process, so it is
    looked for several times. No other process will do: one that has not entered its namespace yet is in the machine's.
    Raises :class:`Failed` when it is not there after a second.
    """
    for _look in range(_LOOKS):
        for pid in _listed():
            if _words(f"/proc/{pid}/comm") == [os.path.basename(plan.HOLD)]:
                return int(pid)
        time.sleep(_LOOK_S)
    raise Failed(f"{ROUTER} is not running")


def _listed() -> list[str]:
    own = [line.split(":", 2)[2].rpartition("/")[0] for line in _words("/proc/self/cgroup")]
    return [pid for root in _CGROUPS for path in own for pid in _words(f"{root}{path}/{ROUTER}/cgroup.procs")]


def _words(path: str) -> list[str]:
    """Return the words of a file in /proc or /sys; none if the process that it describes has ended.

    pathlib is not used, since its import would be slow.
    """
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:
        return []
