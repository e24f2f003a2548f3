"""Checks whether a machine can build and run root images. Pure.

Sources: the kernel's Documentation/filesystems/overlayfs.rst, user_namespaces(7), subuid(5), and for AppArmor's switch
the release notes of Ubuntu 24.04 and the profiles of its package apparmor. (No Ubuntu kernel was at hand: that its
restriction ends where :data:`PROFILE` is loaded was not tried.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from flyted.layers.words import BASE, IDS, KEYRING, MMDEBSTRAP

FIRST_KERNEL = (5, 12)
"""The first one whose overlays can be mounted in a user namespace with ``volatile`` and ``userxattr``."""
ROOM_BYTES = 4 << 30
"""What a base and a few layers take."""
SWITCHES: Mapping[str, str] = {
    "kernel/unprivileged_userns_clone": "0",  # Debian's own
    "user/max_user_namespaces": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",  # Ubuntu's
}
"""The kernel's switches that forbid user namespaces, below /proc/sys, and the value with which each does."""
PROFILE = "flyted"
"""The AppArmor profile of the units that begin user namespaces (packaging/apparmor): they may where others may not."""
_OPPOSITES: Mapping[str, str] = {"0": "1", "1": "0"}
NEEDED = frozenset({MMDEBSTRAP, KEYRING})
"""The files that a Debian is installed with."""


@dataclass(frozen=True)
class MachineFacts:
    """What is known of a machine.

    ``switches``: the values of :data:`SWITCHES` that the kernel has. ``subordinate``: the text of subuid(5) and
    subgid(5). ``files``: those of :data:`NEEDED` that are there. ``profiles``: AppArmor's that the kernel has.
    """

    kernel: tuple[int, int]
    overlay: bool  # whether the kernel has the file system, as a module too
    switches: Mapping[str, str]
    subordinate: str
    files: frozenset[str]
    free_bytes: int
    profiles: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Lack:
    """What is missing. ``fatal``: nothing but Python environments can be built; else some images cannot."""

    detail: str
    hint: str
    fatal: bool = True


def lacks(facts: MachineFacts) -> Iterator[Lack]:
    """Yield what the machine lacks, the most important first."""
    if facts.kernel < FIRST_KERNEL:
        have, need = (".".join(map(str, version)) for version in (facts.kernel, FIRST_KERNEL))
        yield Lack(f"the kernel is {have}; images with more than Python packages need {need}", "upgrade the kernel")
    if not facts.overlay:
        yield Lack("the kernel has no overlayfs", "modprobe overlay")
    yield from restricted(facts.switches, facts.profiles)
    if owner := _owner(facts.subordinate):
        yield Lack(
            f"{owner} has user or group ids from {BASE} to {BASE + IDS - 1}, which own the layers of images",
            "give it others: usermod --del-subuids, --add-subuids (see subuid(5))",
        )
    if missing := sorted(NEEDED - facts.files):
        yield Lack(
            f"{missing[0]} is missing: a Debian base can only be pulled",
            "sudo apt install mmdebstrap debian-archive-keyring", fatal=False,
        )  # fmt: skip
    if facts.free_bytes < ROOM_BYTES:
        yield Lack(
            f"{facts.free_bytes >> 20} MiB are free: a base with a few layers takes {ROOM_BYTES >> 30} GiB",
            "make room: df -h /var/lib/flyted", fatal=False,
        )  # fmt: skip


def restricted(switches: Mapping[str, str], profiles: Collection[str]) -> Iterator[Lack]:
    """Yield the switches of the kernel that forbid flyted user namespaces. ``profiles``: AppArmor's."""
    for name, off in SWITCHES.items():
        apparmor = "apparmor" in name
        if switches.get(name) != off or (apparmor and PROFILE in profiles):
            continue
        hint = f"sysctl -w {name.replace('/', '.')}={1000 if name.startswith('user/') else _OPPOSITES[off]}"
        if apparmor:
            hint = f"sudo apt install --reinstall flyted loads a profile for flyted alone; for all programs: {hint}"
        yield Lack(f"user namespaces are restricted (/proc/sys/{name} is {off})", hint)


def _owner(text: str) -> str:
    """Return the owner of subordinate ids among those of layers; "" if there is none."""
    for line in text.splitlines():
        words = line.split(":")
        if len(words) == 3 and words[1].isascii() and words[1].isdigit() and words[2].isascii() and words[2].isdigit():
            start, count = int(words[1]), int(words[2])
            if count and start < BASE + IDS and start + count > BASE:
                return words[0]
    return ""
