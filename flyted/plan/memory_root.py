"""A root in memory for an app that needs mount points which the machine does not have. Pure.

systemd makes a mount point where there is none. In the root of an image that is the replica's own folder in memory
(plan/images/root_mount.py). An app without one sees the machine's root, which is no place for it, so such an app gets
a root in memory with the machine's folders in it. ``TemporaryFileSystem=/`` would not do: systemd 257 ignores it and
makes the mount points on the machine (tried).

The root is a tmpfs that PID 1 mounts as a unit, which the pair requires like the root of an image.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flyted.contract.names import Replica
from flyted.plan import rooted
from flyted.plan.images import root_mount

MACHINE = ("bin", "boot", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "srv", "usr")
"""The folders of the machine's root that an app with a root in memory sees."""
TAKEN = (*MACHINE, "dev", "home", "proc", "run", "sys", "var")
"""The names of the folders of its root that are the system's."""
_RECURSIVE = 0x4000
"""MS_REC of mount(2): with what is mounted below."""
Properties = dict[str, Any]


def pair(
    service: Properties, socket: Properties, replica: Replica, also: Iterable[str] = ()
) -> tuple[Properties, Properties, dict[str, Properties]]:
    """Return the properties of both units with a root in memory, and the unit by which it is mounted.

    ``also``: paths of the machine, the first folder of each of which the app sees too.
    """
    tops = {path.split("/")[1] for path in also if path.startswith("/")} - {*TAKEN, "root", "tmp", ""}
    binds = [(f"/{name}", f"/{name}", True, _RECURSIVE) for name in sorted({*MACHINE, *tops})]
    needs = rooted.needs(replica)
    inside = {
        **service,
        "RootDirectory": root_mount.path(replica),
        "MountAPIVFS": True,
        "BindReadOnlyPaths": [*binds, *service["BindReadOnlyPaths"]],
        "TemporaryFileSystem": rooted.where_shown(service["TemporaryFileSystem"]),
        "ProtectHome": "tmpfs",  # "yes" would hide what is mounted below /root
        **needs,
    }
    return inside, socket | needs, {root_mount.unit(replica): _mount(replica)}


def _mount(replica: Replica) -> Properties:
    return {
        "Description": f"Root of {replica.server}",
        "What": "tmpfs",
        "Type": "tmpfs",
        "Options": "mode=755,size=1m,nosuid,nodev",
        "RuntimeDirectory": [f"{root_mount.ROOTS}/{root_mount.name(replica)}"],
        "RuntimeDirectoryMode": 0o755,
        "StopWhenUnneeded": True,
        "CollectMode": "inactive-or-failed",
    }
