"""Reads specs of the Container Device Interface for NVIDIA's GPUs: which files and variables a container gets. Pure.

Source: SPEC.md of github.com/cncf-tags/container-device-interface, and what ``nvidia-ctk cdi generate`` writes. The
nodes of devices are not taken from a spec: the lease says which of them an app may open.

What a spec says beyond what is known here makes it unusable as a whole: half of a driver is worse than none.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

KIND = "nvidia.com/gpu"
VERSIONS = frozenset({"0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"})
_SPEC = {"cdiVersion", "kind", "annotations", "devices", "containerEdits"}
_DEVICE = {"name", "annotations", "containerEdits"}
_EDITS = {"env", "deviceNodes", "hooks", "mounts", "intelRdt", "additionalGids", "netDevices"}
_MOUNT = {"hostPath", "containerPath", "options", "type"}
_HOOK = {"hookName", "path", "args", "env", "timeout"}
_LINKS = "create-symlinks"
_NOT_NEEDED = {
    "update-ldcache", "create-soname-symlinks", "chmod", "enable-cuda-compat", "disable-device-node-modification",
}  # fmt: skip
"""Hooks that a read-only root does without: apps find the libraries by ``LD_LIBRARY_PATH``."""
MOST = 4096  # entries of each list


@dataclass(frozen=True)
class Spec:
    """What one file says. ``mounts``: (on the machine, in the container); ``links``: (target, link).

    ``notes``: what it asks for beyond that, and is not done.
    """

    file: str
    devices: frozenset[str]
    mounts: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Found:
    mounts: list[tuple[str, str]] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    environment: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def spec_of(file: str, data: object) -> Spec | None:
    """Return what a file says; ``None`` if it is about other devices.

    Raises ``ValueError``, with why, if it is wrong.
    """
    data = _map(data, "it")
    if data.get("kind") != KIND:
        return None
    version = data.get("cdiVersion")
    if not isinstance(version, str) or version not in VERSIONS:
        raise ValueError(f"has cdiVersion {_shown(version)}, which is not known")
    _known(data, _SPEC, "it")
    devices = _maps(data.get("devices"), "devices")
    names = [_text(device.get("name"), "a device's name") for device in devices]
    if not names:
        raise ValueError("does not describe a device")
    if len(set(names)) < len(names):
        raise ValueError("describes a device twice")
    found = _Found()
    for where, edits in _all_edits(data, devices, names):
        _collect(edits, where, found)
    return Spec(
        file, frozenset(names), tuple(dict.fromkeys(found.mounts)), tuple(dict.fromkeys(found.links)),
        tuple(dict.fromkeys(found.environment)), tuple(dict.fromkeys(found.notes)),
    )  # fmt: skip


def chosen(folders: Sequence[Sequence[Spec]]) -> tuple[list[Spec], list[str]]:
    """Return the specs that count, the most important first, and why others do not.

    ``folders``: the specs of each folder. A later folder's device replaces one of the same name of an earlier one; two
    of one folder are a conflict, and then neither counts (SPEC.md; pkg/cdi/doc.go, "Dynamic Device Conflict").
    """
    taken, found, problems = set[str](), list[Spec](), list[str]()
    for specs in reversed(folders):
        clashes = {
            name for name in taken.union(*(s.devices for s in specs)) if sum(name in s.devices for s in specs) > 1
        }
        for spec in specs:
            if spec.devices & clashes:
                problems.append(f"{spec.file}: device {_shown(min(spec.devices & clashes))} is also in another file")
            elif spec.devices - taken:
                found.append(spec)
        taken.update(*(spec.devices for spec in specs))
    return found, problems


def _all_edits(
    data: Mapping[str, Any], devices: Iterable[Mapping[str, Any]], names: Iterable[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "containerEdits", _map(data.get("containerEdits") or {}, "containerEdits")
    for name, device in zip(names, devices, strict=True):
        where = f"device {_shown(name)}"
        _known(device, _DEVICE, where)
        yield where, _map(device.get("containerEdits") or {}, where)


def _collect(edits: Mapping[str, Any], where: str, found: _Found) -> None:
    _known(edits, _EDITS, where)
    for text in _list(edits.get("env"), f"{where}: env"):
        name, equals, value = _text(text, f"{where}: a variable").partition("=")
        if not equals or not name.isascii() or not name.isidentifier():
            raise ValueError(f"{where}: {_shown(text)} is not a variable")
        found.environment.append((name, value))
    for mount in _maps(edits.get("mounts"), f"{where}: mounts"):
        _known(mount, _MOUNT, f"{where}: a mount")
        found.mounts.append((_path(mount.get("hostPath"), where), _path(mount.get("containerPath"), where)))
    for hook in _maps(edits.get("hooks"), f"{where}: hooks"):
        _known(hook, _HOOK, f"{where}: a hook")
        _hook([_text(word, f"{where}: a hook") for word in _list(hook.get("args"), f"{where}: args")], where, found)


def _hook(words: list[str], where: str, found: _Found) -> None:
    if _LINKS in words:
        for option, value in pairwise(words):
            if option == "--link":
                target, colons, link = value.partition("::")
                if not colons or not target:
                    raise ValueError(f"{where}: {_shown(value)} is not a link")
                found.links.append((target, _path(link, where)))
    elif not _NOT_NEEDED & set(words):
        found.notes.append(f"hook {_shown(' '.join(words))} is not run")


def _path(value: object, where: str) -> str:
    text = _text(value, f"{where}: a path")
    if not text.startswith("/") or text.startswith("//") or posixpath.normpath(text) != text or text == "/":
        raise ValueError(f"{where}: {_shown(text)} is not a plain absolute path")
    return text


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value or len(value) > MOST or not value.isprintable():
        raise ValueError(f"{what} is {_shown(value)}, not a text of one line")
    return value


def _known(data: Mapping[str, Any], known: set[str], where: str) -> None:
    if others := [name for name in data if name not in known]:
        raise ValueError(f"{where} has the unknown field {_shown(others[0])}")


def _map(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is {_shown(value)}, not a map")  # noqa: TRY004 - of a file, not of our code
    return value


def _list(value: object, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MOST:
        raise ValueError(f"{what} is not a list, or too long")
    return value


def _maps(value: object, what: str) -> list[Mapping[str, Any]]:
    return [_map(each, what) for each in _list(value, what)]


def _shown(value: object) -> str:
    """Return a value as ASCII for a line of doctor; nothing of it is written out that nests."""
    return f"{value!a:.60}" if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
