"""Describes the mount of an image's root: an overlay of the image's layers, with a folder in memory on top. Pure.

PID 1 mounts it, since only it can, as a transient ``.mount`` unit that belongs to a replica's pair: the socket and the
service require it, so it is mounted before either starts, stays while the app sleeps, and comes back at a wake if
it has been unmounted. When neither is left, PID 1 unmounts it (``StopWhenUnneeded=``) and deletes the folder in
memory (``RuntimeDirectory=``). It needs no flyted for that, which may not: a folder of the root in which PID 1 makes a
mount point is copied up, and belongs to the layers' owner.

The folder in memory is there since systemd makes mount points in the root: without it, an app in it does not start
(226/NAMESPACE). It holds a few empty folders; ``ProtectSystem=strict`` makes all of the root read-only for the app.

Two of these are walls: :data:`HOMES`. The image's are bound over the empty ones of ``ProtectHome=tmpfs``, and systemd
follows links in what it binds on the machine, not in the root. A folder in memory is a folder of the root, with what
the layers have in theirs, and a link that an image has in its place is not seen. No home may be bound from any other
path: what systemd has mounted by then on the way, such as /proc or the app's /tmp, could lead out again (tried).

``BindsTo=`` would add nothing but the end of an app whose root was unmounted, which otherwise continues with its own
copy of the mount. Older kernels take all layers in one text of a page, some 60 of them, by mount(2); Linux 6.8 takes
each by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flyted.contract.names import Replica
from flyted.plan.images.layer_unit import LAYERS

ROOTS = "flyted/roots"
"""Below /run; one folder for each replica in it, in which the mount point and the folder in memory are."""
HOMES = ("/root", "/home")
"""The folders with the homes of users, but for /run/user (``ProtectHome=`` in systemd.exec(5))."""
APPENDS = (6, 8)
"""The first kernel that takes layers one by one (``lowerdir+=``), each in a text of its own."""
LONGEST = 4095
"""Bytes of options that an older kernel takes: a page (mount(2))."""


def name(replica: Replica) -> str:
    """Return the name of a replica's folder, without a hyphen: that is a slash in the name of a mount unit."""
    return replica.server.replace("-", "_")


def path(replica: Replica) -> str:
    """Return the folder at which a replica's root is mounted."""
    return f"/run/{ROOTS}/{name(replica)}/root"


def unit(replica: Replica) -> str:
    """Return the name of the unit that mounts a replica's root, which follows from the path (systemd.mount(5))."""
    return f"run-{ROOTS.replace('/', '-')}-{name(replica)}-root.mount"


def home_binds(replica: Replica) -> list[tuple[str, str]]:
    """Return each of :data:`HOMES` as the machine has it mounted, and where a unit has it."""
    return [(f"{path(replica)}{home}", home) for home in HOMES]


def properties(replica: Replica, layers: Sequence[str], kernel: tuple[int, int]) -> dict[str, Any]:
    """Return the properties of the ``.mount``. ``layers``: their ids, lowest first."""
    here = f"{ROOTS}/{name(replica)}"
    return {
        "Description": f"Root of {replica.server}",
        "What": "overlay",
        "Type": "overlay",
        "Options": options(replica, layers, kernel),
        # mount(8) of util-linux 2.39 hands each option over by fsconfig(2), which takes 255 bytes: too few for
        # lowerdir= with five layers. So that has to go by mount(2).
        "Environment": [] if kernel >= APPENDS else ["LIBMOUNT_FORCE_MOUNT2=always"],
        "RuntimeDirectory": [here, f"{here}/upper", *(f"{here}/upper{home}" for home in HOMES), f"{here}/work"],
        "RuntimeDirectoryMode": 0o755,  # also of the root itself, which is the upper folder's
        "RequiresMountsFor": [LAYERS],
        "StopWhenUnneeded": True,
        "CollectMode": "inactive-or-failed",
    }


def options(replica: Replica, layers: Sequence[str], kernel: tuple[int, int]) -> str:
    """Return the options of the mount, for a kernel of this version.

    ``userxattr``: as the layers are made, without privileges; it also keeps a layer from naming files of others.
    """
    lowest_last = [f"{LAYERS}/{each}/diff" for each in reversed(layers)]
    if kernel >= APPENDS:
        lower = [f"lowerdir+={each}" for each in lowest_last]
    else:
        lower = [f"lowerdir={':'.join(lowest_last)}"]
    here = f"/run/{ROOTS}/{name(replica)}"
    return ",".join([*lower, f"upperdir={here}/upper", f"workdir={here}/work", "userxattr", "nosuid", "nodev"])
