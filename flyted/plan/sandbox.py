"""The hardening that every app gets: one row per property, with its reason and its man page. Pure.

The table has only rules that a usual Python program does not notice. What would break one is left out on purpose:
``MemoryDenyWriteExecute`` (numba, torch.compile, Node), ``~@resources`` (sched_setaffinity of BLAS and OpenMP),
``ProcSubset=pid`` (/proc/meminfo and /proc/cpuinfo: psutil, torch). A test checks the score of a running unit
(``systemd-analyze security``), because the score of a file would not show that D-Bus lost a property.
"""
# ruff: noqa: FBT003  a row of a table: name, value, why

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flyted.contract.names import CALLS_ADDRESS

Address = tuple[int, list[int], int]
"""(AF_INET or AF_INET6, the bytes, the prefix length): an address as D-Bus takes it."""


class Network(enum.Enum):
    """The kind of network that an app has."""

    OWN = "its own, with egress"
    APPS = "its own, to the apps that it may call"
    NONE = "its own, empty one"


@dataclass(frozen=True)
class Row:
    """One property, why it is there, and the section of systemd.exec(5) or systemd.resource-control(5)."""

    name: str
    value: Any
    why: str
    section: str


CLONE_NEWUTS = 0x04000000
"""The only kind of namespace that is allowed. Without user namespaces no app can make one (clone(2): CAP_SYS_ADMIN).

It cannot be none at all: systemd writes that to the transient unit file as an empty setting, which a daemon-reload
reads as "all are allowed" (measured on 257).
"""

SANDBOX: tuple[Row, ...] = (
    Row("NoNewPrivileges", True, "no setuid program gives rights back", "exec: SECURITY"),
    Row("CapabilityBoundingSet", 0, "no capability, whatever is executed", "exec: CAPABILITIES"),
    Row("AmbientCapabilities", 0, "no capability at the start", "exec: CAPABILITIES"),
    Row("ProtectSystem", "strict", "the whole tree is read-only but for its own folders", "exec: SANDBOXING"),
    Row("ProtectHome", "yes", "home folders are empty", "exec: SANDBOXING"),
    Row("PrivateTmp", True, "own /tmp: no file of another's to trip over", "exec: SANDBOXING"),
    Row("PrivateMounts", True, "mounts stay in the unit, the credentials' too", "exec: SANDBOXING"),
    Row("PrivateDevices", True, "no disk, no /dev/mem; null, random and pts stay", "exec: SANDBOXING"),
    Row("DevicePolicy", "closed", "the same again at the cgroup, for nodes made elsewhere", "resource-control"),
    Row("PrivateUsers", True, "root and other users do not exist inside", "exec: SANDBOXING"),
    Row("PrivateIPC", True, "no System V IPC or message queue across apps", "exec: SANDBOXING"),
    Row("RemoveIPC", True, "what is left of it goes with the unit", "exec: SANDBOXING"),
    Row("ProtectProc", "invisible", "processes of others are not in /proc", "exec: SANDBOXING"),
    Row("ProtectKernelTunables", True, "/proc/sys and /sys read-only", "exec: SANDBOXING"),
    Row("ProtectKernelModules", True, "no module is loaded", "exec: SANDBOXING"),
    Row("ProtectKernelLogs", True, "dmesg shows addresses and other units' faults", "exec: SANDBOXING"),
    Row("ProtectControlGroups", True, "its own limits stay out of its reach", "exec: SANDBOXING"),
    Row("ProtectClock", True, "certificates and time-outs depend on it", "exec: SANDBOXING"),
    Row("ProtectHostname", True, "the host's name is not the app's to set", "exec: SANDBOXING"),
    Row("RestrictNamespaces", CLONE_NEWUTS, "user namespaces are much of the kernel's surface", "exec: SANDBOXING"),
    Row("RestrictRealtime", True, "a realtime loop would take the machine", "exec: SANDBOXING"),
    Row("RestrictSUIDSGID", True, "no setuid file is left behind in a state folder", "exec: SANDBOXING"),
    Row("LockPersonality", True, "no other ABI", "exec: SANDBOXING"),
    Row("KeyringMode", "private", "kernel keys of the session stay with it", "exec: PROCESS PROPERTIES"),
    Row("UMask", 0o077, "files of an app are the app's", "exec: PROCESS PROPERTIES"),
    Row("SystemCallArchitectures", ["native"], "a 32-bit call would pass by it", "exec: SYSTEM CALL FILTERING"),
    Row(
        "SystemCallFilter",
        [(True, ["@system-service"]), (False, ["@privileged"])],
        "what services use, less what needs a capability anyway",
        "exec: SYSTEM CALL FILTERING",
    ),
    Row("SystemCallErrorNumber", 1, "EPERM: libraries fall back, instead of SIGSYS", "exec: SYSTEM CALL FILTERING"),
    Row("LimitCORE", 0, "a core would hold the secrets", "exec: PROCESS PROPERTIES"),
    Row("LimitCORESoft", 0, "the same for the soft limit", "exec: PROCESS PROPERTIES"),
)

RUN = "/run"
SHOWN_OF_RUN: tuple[str, ...] = (
    "/run/systemd/notify",  # READY=1: sd_notify(3)
    "/run/systemd/journal/dev-log",  # syslog(3)
    "/run/systemd/journal/socket",  # sd_journal_print(3)
    "/run/systemd/userdb/io.systemd.DynamicUser",  # getpwuid(3) of its own user: nss-systemd(8)
)
"""The paths below /run that apps and builds see.

The rest is hidden: the units of others, and sockets of services that trust every local process (D-Bus, Docker,
databases; systemd-resolved, which would query the network for an app without one). ``ProtectSystem=strict`` is not
enough for /run: together with ``ProtectProc=`` and others, systemd 257 leaves /run as it is, including /run/lock,
where every user can write (measured).
"""

RESOLVERS: tuple[str, ...] = (
    "/run/systemd/resolve/stub-resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/resolvconf",
    "/run/connman/resolv.conf",
)
"""The files that /etc/resolv.conf may be a link to."""

GPU_SERVICES: tuple[str, ...] = ("/run/nvidia-persistenced/socket", "/run/nvidia-fabricmanager/socket")
"""The sockets of NVIDIA's services, which NVIDIA's container toolkit gives to containers too."""

NETWORK: tuple[Row, ...] = (
    Row(
        "PrivateNetwork",
        True,
        "no port, address or abstract socket of others is here; all are free",
        "exec: SANDBOXING",
    ),
    Row(
        "RestrictAddressFamilies",
        (True, ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"]),
        "IP and its own sockets only; netlink lists the interfaces (getifaddrs(3)): Node, libzmq, NCCL, gloo",
        "exec: SANDBOXING",
    ),
    Row("IPAddressAllow", [(2, [127, 0, 0, 0], 8), (10, [0] * 15 + [1], 128)], "its own loopback", "resource-control"),
)

NO_EGRESS: tuple[Row, ...] = (
    Row("IPAddressDeny", [(2, [0] * 4, 0), (10, [0] * 16, 0)], "nothing leaves, twice", "resource-control"),
)

GPU: tuple[Row, ...] = (
    Row("PrivateDevices", False, "NVIDIA's nodes are seen; DeviceAllow= opens those of the lease alone", "exec"),
)
"""For an app with GPUs: replaces the row of the same name."""

LOOPBACK: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
CLOSED_NETWORKS: tuple[str, ...] = (
    *LOOPBACK,  # of the machine, for what carries the apps' packets; an app has its own
    "0.0.0.0/8",  # Linux connects it to the loopback
    "169.254.0.0/16", "fe80::/10",  # link-local, with the metadata service of most clouds, 169.254.169.254
    "fd00:ec2::/32",  # the same of AWS by IPv6
    "fd20:ce::/32",  # and of Google Cloud
    "168.63.129.16/32", "100.100.100.200/32",  # and of Azure and Alibaba, outside the link-local range
    "::ffff:127.0.0.0/104", "::ffff:169.254.0.0/112",  # IPv4 written as IPv6
    "64:ff9b::7f00:0/104", "64:ff9b::a9fe:0/112",  # and through a NAT64 (RFC 6052)
    "224.0.0.0/4", "ff00::/8", "255.255.255.255/32",  # multicast and broadcast
)  # fmt: skip
"""The networks that no app can reach.

The routes of the app's network (flyted/net/plan.py) refuse a connection to them. This list is a second
barrier behind the routes, which drops packets silently. Each network is an entry of its own, because systemd 252
refuses several in one.
"""

STUB_RESOLVERS = ("127.0.0.53", "127.0.0.54")
"""The addresses of systemd-resolved(8), which flyted-net queries for apps (units/flyted-net.service).

Another name server on the loopback, such as one on 127.0.0.1, cannot be allowed without allowing everything that
listens there. Apps then cannot resolve names, and doctor says so.
"""


def sandbox(network: Network, *, gpu: bool = False) -> dict[str, Any]:
    """Return the properties of the sandbox. ``gpu``: whether the app uses GPUs."""
    rows = SANDBOX + NETWORK + (() if network is Network.OWN else NO_EGRESS) + (GPU if gpu else ())
    properties = {row.name: row.value for row in rows}
    if network is Network.OWN:
        properties["IPAddressDeny"] = [address(net) for net in CLOSED_NETWORKS]
    if network is Network.APPS:
        properties["IPAddressAllow"] = [*properties["IPAddressAllow"], address(CALLS_ADDRESS)]
    return properties


def little_of_run(more: Iterable[str] = RESOLVERS) -> dict[str, Any]:
    """Return the properties of an empty, read-only /run with :data:`SHOWN_OF_RUN` and ``more``, if they exist."""
    return {
        "TemporaryFileSystem": [(RUN, "ro,mode=755,size=1m")],
        "BindReadOnlyPaths": [(path, path, True, 0) for path in (*SHOWN_OF_RUN, *more)],
    }


def unreachable_nameservers(nameservers: Iterable[str]) -> tuple[str, ...]:
    """Return the host's name servers that apps cannot reach, for doctor: the closed ones, and all of IPv6."""
    closed = [ipaddress.ip_network(net) for net in CLOSED_NETWORKS]
    found = {text: ipaddress.ip_address(text) for text in nameservers if text not in STUB_RESOLVERS}
    return tuple(text for text, ip in found.items() if ip.version == 6 or any(ip in net for net in closed))


def address(text: str) -> Address:
    """Return a network or an address as D-Bus takes it. Raises ``ValueError`` for any other text."""
    net = ipaddress.ip_network(text)
    return (2 if net.version == 4 else 10, list(net.network_address.packed), net.prefixlen)
