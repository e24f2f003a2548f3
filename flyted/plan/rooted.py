"""Adapts the service unit of an app to an image that has its own root file system. Pure.

The app runs as the same pair of units, in ``RootDirectory=``:

run-flyted-roots-REPLICA-root.mount   overlay: lower = the image's layers, upper = a few folders in memory
       ^ Requires=, After=
flyted-app-REPLICA.socket, .service   RootDirectory=/run/flyted/roots/REPLICA/root

``launch`` needs a Python. A server function has the image's. A program on a port of its own gets the machine's, which
is seen at ``/usr/lib/flyted/host`` and runs by its own ``ld.so`` with its own libraries; so does
``systemd-socket-proxyd``. So an image needs no Python and no C library, and what flyted runs is patched by the
distribution. A copy of these programs alone would take 54 MB for each version, instead of a mount of files that apps
see anyway.

The root is read-only, like the machine's root for other apps. Each ``VOLUME`` is a folder in memory, which ``launch``
fills from the image at each start, as a container is filled; ``/run`` is in memory too. So are the folders that belong
to the image's USER (``plan/images/own_folders.py``): found when the image is built, recorded with it, and named by
``serve``. An app's data is in ``$HOME`` and ``/data``, as always (``plan/data_folder.py``). Programs that need to
become another user (``gosu``, ``chown``) are refused at the deploy, and so is a script of the image that runs one
whatever it is called with, and never asks who it is (``plan/images/root_script.py``).

An app has no user ids of its own, id-mapped into its image (systemd 257), with which ``chown`` and ``gosu`` would
work. To be root of a user namespace opens the parts of the kernel that apps are kept from (mounts, netfilter, more
namespaces), every app would need 65,536 ids that no other ever had, and a copy of its image to write to; Debian 12
could do none of it.

/root and /home are the image's, on folders in memory: PID 1 makes both in the overlay's upper folder, so they are
never links (``plan/images/root_mount.py``). What an image has as a link is an empty folder for its apps, and ``serve``
reports it. A VOLUME in their place is refused: systemd would make it read-only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from flyted.contract.app import AppSpec
from flyted.contract.fserve import split
from flyted.contract.names import Replica
from flyted.launch import words
from flyted.plan.data_folder import in_memory
from flyted.plan.facts import Platform, RootFact
from flyted.plan.gpus import driver
from flyted.plan.images import root_mount
from flyted.plan.sandbox import RUN

_USR = "/usr"
_FILES = ("/etc/resolv.conf", "/etc/hosts")
"""The machine's files that each container finds, and so images do not have."""


def interpreter(spec: AppSpec, root: RootFact, platform: Platform) -> list[str]:
    """Return the words that start the Python that runs launch.

    It is the image's for what runs in launch's own process: Flyte's server functions and fserve's other commands, and
    programs that take the inherited socket. A program on a port of its own needs none, so the machine's does for it.
    """
    in_process = bool(split(spec.command)[0]) or not spec.port
    if root.python and in_process:
        return [root.python, "-I"]
    return [*words.host_command("bin/python3", platform.architecture), "-I", "-S"]  # launch needs no more there


def in_root(service: dict[str, Any], spec: AppSpec, replica: Replica, root: RootFact, launch: str) -> dict[str, Any]:
    """Return the properties of a service, with those that put it into its image's root."""
    binds = [(launch, launch, False, 0), (_USR, words.HOST, False, 0)]
    there = {target for _source, target, *_ in service["BindReadOnlyPaths"]}
    binds += [(path, path, True, 0) for path in _FILES if path not in there]
    if spec.gpu_count:
        binds += driver.binds()
    binds += [(source, home, False, 0) for source, home in root_mount.home_binds(replica)]
    if in_memory(root):
        binds.append((root_mount.path(replica), words.IMAGE, False, 0))
    size = f"mode=1777,size={spec.memory_bytes}"
    # programs that expect a root of their own keep a PID file or a socket in /run
    shown = where_shown(service["TemporaryFileSystem"])
    empty = [(RUN, size) if path == RUN else (path, how) for path, how in shown]
    return {
        **service,
        "RootDirectory": root_mount.path(replica),
        "MountAPIVFS": True,
        "BindReadOnlyPaths": [*service["BindReadOnlyPaths"], *binds],
        "TemporaryFileSystem": [*empty, *((volume, size) for volume in in_memory(root))],
        # images have programs and code in /root: it is bound over the empty folder
        "ProtectHome": "tmpfs",
        **needs(replica),
    }


def where_shown(empty: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the folders in memory of a service as they are called in a root of its own.

    There an app's state and cache are at /var/lib/NAME and /var/cache/NAME themselves, which are no links to the
    folders below ``private`` (compile_bind_mounts in systemd's exec-invoke.c).
    """
    return [(re.sub(r"^(/var/(?:cache|lib))/private/", r"\1/", path), how) for path, how in empty]


def needs(replica: Replica) -> dict[str, Any]:
    """Return the properties of each unit of a pair by which it has the root mounted before it starts."""
    mount = root_mount.unit(replica)
    return {"Requires": [mount], "After": [mount]}


def launch_options(root: RootFact) -> Iterator[str]:
    """Yield launch's options for what an image's config says."""
    if root.workdir:
        yield from (words.WORKDIR, words.quote(root.workdir))
    for volume in in_memory(root):
        yield from (words.VOLUME, words.quote(volume))
