"""Shows the files and folders among an app's parameters where its file says (``mount``): what a unit needs. Pure.

On a cluster an app can write anywhere in its container, so ``mount`` may be any path, such as /app/models. Here launch
shows the parameter there (flyted/launch/fetch.py) as links, in a small folder in memory that the unit gets.

Source of what a mount means: ``sync_parameters`` in flyte/_bin/serve.py.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput
from flyted.contract.fserve import parameters
from flyted.contract.names import Replica, printable
from flyted.plan import memory_root
from flyted.plan.facts import RootFact
from flyted.plan.images.root_check import is_volume

_WRITABLE = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  what every app can write to anyway
_FOLDER = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._@+-]+)+")
_LINKS = "mode=1777,size=64m"
"""Links take little; a large file is on the disk, in the app's cache."""
Properties = dict[str, Any]


def folders(spec: AppSpec) -> tuple[str, ...]:
    """Return the folders, none below another, that the app's parameters need and that are not writable anyway."""
    found = {folder for parameter in parameters(spec.command) if (folder := _folder(parameter))}
    return tuple(sorted(one for one in found if not any(one.startswith(f"{other}/") for other in found)))


def check(spec: AppSpec, *, rooted: bool) -> None:
    """Raise :class:`InvalidInput` for a ``mount`` at which nothing can be shown.

    ``rooted``: whether the app's image has a root of its own.
    """
    for folder in folders(spec):
        fits = is_volume(folder) if rooted else folder.split("/")[1] not in memory_root.TAKEN and folder != "/root"
        if not (_FOLDER.fullmatch(folder) and fits):
            raise InvalidInput(
                f"app '{spec.key}': a parameter cannot be shown in {printable(folder)}, which is the machine's own",
                hint="use mount= with another path, such as /app/models/ or /tmp/models/",
            )


def with_volumes(root: RootFact, spec: AppSpec) -> RootFact:
    """Return the root of an image in which the folders of parameters are writable, too."""
    return replace(root, volumes=tuple(dict.fromkeys((*root.volumes, *folders(spec)))))


def pair(
    service: Properties, socket: Properties, spec: AppSpec, replica: Replica, *, rooted: bool
) -> tuple[Properties, Properties, dict[str, Properties]]:
    """Return the properties of both units with what shows the app's parameters, and the mounts that they need.

    ``rooted``: whether the app's image has a root of its own, in which nothing is missing.
    """
    shown = folders(spec)
    if rooted or not shown:
        return service, socket, {}
    links = [(folder, _LINKS) for folder in shown]
    service = {**service, "TemporaryFileSystem": [*service["TemporaryFileSystem"], *links]}
    return memory_root.pair(service, socket, replica, _also(spec))


def _also(spec: AppSpec) -> Iterator[str]:
    """Yield the paths at which the app has something to read on the machine."""
    yield from (spec.python_env, *(folder for _, folder in spec.models), *_local(parameters(spec.command)))


def _local(found: Iterable[dict[str, Any]]) -> Iterator[str]:
    for parameter in found:
        if parameter.get("type") in ("file", "directory"):
            yield posixpath.normpath(str(parameter.get("value", "")).removeprefix("file://"))


def _folder(parameter: dict[str, Any]) -> str:
    """Return the folder in which a parameter is shown; "" for one that is shown where the app can write anyway."""
    mount = parameter.get("dest")
    if not isinstance(mount, str) or not mount.startswith("/") or parameter.get("type") not in ("file", "directory"):
        return ""
    whole = posixpath.normpath(mount)
    at = whole if parameter["type"] == "directory" or mount.endswith("/") else posixpath.dirname(whole)
    return "" if at.startswith("/") and any(at == each or at.startswith(f"{each}/") for each in _WRITABLE) else at
