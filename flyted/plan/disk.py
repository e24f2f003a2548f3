"""Checks whether the disk has the free space that an app asks for (``resources.disk``). Pure.

On a cluster ``disk`` is ephemeral storage: it is reserved, and an app that takes more is evicted. Here it is checked
when the app is served, and watched afterwards (``daemon/apps/disk_watch.py``).

File systems limit folders by project quotas. systemd sets them from version 258 on (``StateDirectoryQuota=`` in
systemd.exec(5)); those of Debian 12 and 13 are 252 and 257. Without systemd it would take a program with
CAP_SYS_ADMIN, which gives each folder a project number: Docker and LXD take theirs as they like, and statvfs(2) of the
folder then reports the quota. For layers the same was tried and left (``flyted/layers/room.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

from flyted.contract.errors import InvalidInput
from flyted.contract.names import AppKey
from flyted.contract.quantity import human_bytes

APP_FOLDERS = ("/var/lib", "/var/cache")
"""The folders in which systemd makes the state and the cache folders of apps."""
NOT_LIMITED = (
    "resources.disk: there is room for it now, but it is not reserved: it is watched, not enforced, since systemd "
    "before 258 cannot limit a folder"
)


def over(asked: int, kept: int) -> str:
    """Return what is said of an app that keeps more bytes than it asked for; "" if it does not, or asked for none."""
    if not asked or kept <= asked:
        return ""
    return f"it keeps {human_bytes(kept)}, more than the {human_bytes(asked)} of resources.disk"


def check_room(key: AppKey, asked: int, before: int, free: Mapping[str, int]) -> None:
    """Raise :class:`InvalidInput`, with the figures, unless there is enough free space. All sizes are in bytes.

    ``before``: what the serving revision asked for. It may have used that already, in folders that only the app can
    read, so only what is asked for beyond it has to be free. ``free``: the free space of each file system on which
    apps write, by folder.
    """
    need = max(asked - before, 0)
    if need <= sum(free.values()):
        return
    there = " and ".join(f"{human_bytes(size)} in {folder}" for folder, size in sorted(free.items()))
    more = f" ({human_bytes(need)} more than before)" if before else ""
    raise InvalidInput(
        f"app '{key}' asks for {human_bytes(asked)} of disk{more}; free: {there}",
        hint="make room, or ask for less: flyte.Resources(disk=…)",
    )
