"""Adapts the service unit of an app to an image that has its own root file system. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flyted.contract.app import AppSpec
from flyted.contract.fserve import split
from flyted.contract.names import Replica
from flyted.launch import words
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
    if root.volumes:
        binds.append((root_mount.path(replica), words.IMAGE, False, 0))
    size = f"mode=1777,size={spec.memory_bytes}"
    # programs that expect a root of their own keep a PID file or a socket in /run
    empty = [(RUN, size) if path == RUN else (path, how) for path, how in service["TemporaryFileSystem"]]
    return {
        **service,
        "RootDirectory": root_mount.path(replica),
        "MountAPIVFS": True,
        "BindReadOnlyPaths": [*service["BindReadOnlyPaths"], *binds],
        "TemporaryFileSystem": [*empty, *((volume, size) for volume in root.volumes)],
        # images have programs and code in /root: it is bound over the empty folder
        "ProtectHome": "tmpfs",
        **needs(replica),
    }


def needs(replica: Replica) -> dict[str, Any]:
    """Return the properties of each unit of a pair by which it has the root mounted before it starts."""
    mount = root_mount.unit(replica)
    return {"Requires": [mount], "After": [mount]}


def launch_options(root: RootFact) -> Iterator[str]:
    """Yield launch's options for what an image's config says."""
    if root.workdir:
        yield from (words.WORKDIR, words.quote(root.workdir))
    for volume in root.volumes:
        yield from (words.VOLUME, words.quote(volume))
