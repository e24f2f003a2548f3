"""Shows an app the volumes that it asks for: binds of the operator's folders. Pure.

A mount point has to be made. In the root of an image PID 1 makes it in the replica's own folder in memory. The
machine's root is no place for it, so an app that sees that one has its volumes in /mnt, which is a folder in memory
then.

A folder that is missing is left out by PID 1, and launch says so, in words, at each start: the mount would fail
without any (226/NAMESPACE). If the folder is a mount point of its own, it is mounted before the app starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput
from flyted.contract.volumes import RO
from flyted.launch import words
from flyted.plan import parameter_mounts
from flyted.plan.data_folder import DATA
from flyted.plan.facts import Place, RootFact
from flyted.plan.images.root_check import is_volume

_MNT = "/mnt"
_RECURSIVE = 0x4000
"""MS_REC of mount(2): with what is mounted below."""
_SHARED_UMASK = 0o007
"""The group of a volume may change what apps write there, or no two apps could share it."""


def check(spec: AppSpec, *, rooted: bool) -> None:
    """Raise :class:`InvalidInput` for a volume at a path that cannot be covered, or where a parameter is shown.

    ``rooted``: whether the app's image has a root of its own.
    """
    shown = parameter_mounts.folders(spec) if spec.volumes else ()
    for use in spec.volumes:
        for folder in shown:
            if f"{folder}/".startswith(f"{use.path}/") or use.path.startswith(f"{folder}/"):
                raise InvalidInput(
                    f"app '{spec.key}': volume '{use.name}' cannot be at {use.path}: a parameter is shown in {folder}",
                    hint=f"--volume {use.name}:{_MNT}/{use.name}",
                )
        inside, fits = use.path.startswith(f"{DATA}/"), use.path == DATA or use.path.startswith(f"{_MNT}/")
        if inside or not (is_volume(use.path) if rooted else fits):
            raise InvalidInput(
                f"app '{spec.key}': a volume cannot be at {use.path}, "
                + ("which is the app's own" if inside else "which is the system's" if rooted else f"only in {_MNT}"),
                hint=f"use a path such as /mnt/{use.name}: --volume {use.name}:/mnt/{use.name}",
            )


def check_links(spec: AppSpec, place: Callable[..., Place]) -> None:
    """Raise :class:`InvalidInput` for a path on which the image has a link: PID 1 would mount where it leads.

    ``place``: what is at a path of the image; without ``links`` a link counts as a file.
    """
    for use in spec.volumes:
        parts = use.path.split("/")
        for length in range(2, len(parts) + 1):
            path = "/".join(parts[:length])
            if place(path, links=False) not in (Place.NOTHING, Place.FOLDER):
                raise InvalidInput(
                    f"app '{spec.key}': volume '{use.name}' cannot be at {use.path}: {path} of the image is no folder",
                    hint=f"--volume {use.name}:/mnt/{use.name}",
                )


def view(service: dict[str, Any], spec: AppSpec, *, rooted: bool) -> dict[str, Any]:
    """Return the properties of a service with the app's volumes, but not with its data where a parameter is shown."""
    if _shown_in_data(spec):
        service = {name: value for name, value in service.items() if name != "BindPaths"}
    if not spec.volumes:
        return service
    binds = {
        kind: [
            (use.folder, use.path, True, _RECURSIVE)
            for use in spec.volumes
            if (use.mode == RO) is (kind != "BindPaths")
        ]
        for kind in ("BindPaths", "BindReadOnlyPaths")
    }
    covered = {use.path for use in spec.volumes}
    own = [bind for bind in service.get("BindPaths", []) if bind[1] not in covered]
    groups = sorted({use.group for use in spec.volumes if use.group})
    empty, seen = service["TemporaryFileSystem"], service["BindReadOnlyPaths"]
    if not rooted and any(use.path.startswith(f"{_MNT}/") for use in spec.volumes):
        empty = [*empty, (_MNT, "ro,mode=755,size=1m")]
        seen = [*seen, *((path, path, False, 0) for path in _hidden(spec))]
    writable = [*own, *binds["BindPaths"]]
    without = {name: value for name, value in service.items() if name != "BindPaths"}
    return {
        **without,
        "TemporaryFileSystem": empty,
        "BindReadOnlyPaths": [*seen, *binds["BindReadOnlyPaths"]],
        # an empty list would take all binds back, also those that are read-only (systemd's dbus-execute.c)
        **({"BindPaths": writable} if writable else {}),
        "RequiresMountsFor": sorted(use.folder for use in spec.volumes),
        **({"SupplementaryGroups": groups, "UMask": _SHARED_UMASK} if groups else {}),
    }


def uncovered(root: RootFact | None, spec: AppSpec) -> RootFact | None:
    """Return the root of an image, if any, without its volumes in whose place the app has one of the operator's.

    launch would fill them from the image.
    """
    covered = {use.path for use in spec.volumes}
    rest = tuple(folder for folder in root.volumes if folder not in covered) if root else ()
    return root and replace(root, volumes=rest, data=root.data and not _shown_in_data(spec))


def _shown_in_data(spec: AppSpec) -> bool:
    """Report whether a parameter is shown at /data or in it: PID 1 makes no folder in what the app could change."""
    return any(f"{folder}/".startswith(f"{DATA}/") for folder in parameter_mounts.folders(spec))


def mount_points(spec: AppSpec, root: RootFact, place: Callable[..., Place]) -> list[str]:
    """Return the folders of an image in whose place this app sees something else.

    ``place``, and what is raised: as in :func:`check_links`.
    """
    check_links(spec, place)
    return [*root.volumes, *parameter_mounts.folders(spec), *(use.path for use in spec.volumes)]


def options(spec: AppSpec) -> Iterator[str]:
    """Yield launch's options: which volumes have to be there."""
    for use in spec.volumes:
        yield from (words.MOUNTED, words.quote(f"{use.name}:{use.path}:{use.folder}"))


def _hidden(spec: AppSpec) -> list[str]:
    """Return what the app reads of the machine's own /mnt."""
    paths = (spec.python_env, *(folder for _, folder in spec.models))
    return sorted({path for path in paths if path.startswith(f"{_MNT}/")})
