"""Shows an app its data at ``/data``, too: where images and files of the world look for it. Pure.

``$HOME``, ``$STATE_DIRECTORY`` and ``/data`` are one folder, of which the working folder is a part. It is bound as a
whole: a folder inside of it, which the app could replace by a link, must never be the source of a mount, since PID 1
follows links.

What has files at ``/data`` already keeps them in sight: an image that ships some, and the machine, where it is the
mount point of many a disk. An empty folder is covered, and where there is none, PID 1 makes the mount point. A VOLUME
``/data`` of an image is the app's data too, instead of a folder in memory.
"""

from __future__ import annotations

from typing import Any

from flyted.contract.names import Replica, state_name
from flyted.plan.facts import Platform, RootFact

DATA = "/data"
STATE = "/var/lib/private"
"""The parent of the state folders of units with a user of their own (systemd.exec(5), DynamicUser=)."""


def view(replica: Replica, root: RootFact | None, platform: Platform) -> dict[str, Any]:
    """Return the properties by which a service sees its data at ``/data``; none where that has files already."""
    if not (root.data if root is not None else platform.data):
        return {}
    return {"BindPaths": [(f"{STATE}/{state_name(replica.app_id)}", DATA, False, 0)]}


def in_memory(root: RootFact) -> tuple[str, ...]:
    """Return the volumes of an image that are folders in memory."""
    return tuple(volume for volume in root.volumes if not (root.data and volume == DATA))
