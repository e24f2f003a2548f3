"""Reads a job: which layer to make, above which others, by which step. All of it is checked before a step begins.

The tests of the planner parse every job that they plan, and a key that is not known is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from .failed import Failed
from .words import CREDENTIAL, DIGEST, EX_CONFIG, FOLDER, FORMAT, LAYER

_T = TypeVar("_T")
_SUITE = re.compile(r"[a-z][a-z0-9-]{0,40}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{0,127}(?::[a-z0-9-]+)?(?:=[A-Za-z0-9.+:~-]+)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODE = re.compile(r"[0-7]{3,4}")
_OWNER = re.compile(r"[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.-]+)?")


@dataclass(frozen=True)
class Debian:
    """A step that installs a Debian from the machine's own apt sources. It has no parents."""

    suite: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """Where files come from: the bundle ``folder``, or if that is "" another stage: its ``layers``, lowest first."""

    folder: str
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mount:
    """A file or folder, shown at ``target`` while a command runs. ``text``: the content of one without an origin."""

    origin: Origin | None
    source: str
    target: str
    writable: bool
    text: str = ""


@dataclass(frozen=True)
class Secret:
    """A credential of the unit that a command gets as a variable or as a file; the other one is empty."""

    credential: str
    env: str
    file: str


@dataclass(frozen=True)
class Run:
    """A step that runs a command. ``show``: its name for people.

    ``caches``: folders that are not kept. ``empty``: such folders in memory.
    """

    argv: tuple[str, ...]
    show: str
    mounts: tuple[Mount, ...]
    caches: tuple[str, ...]
    secrets: tuple[Secret, ...]
    empty: tuple[str, ...] = ()


@dataclass(frozen=True)
class Copy:
    """A step that copies files, as COPY and ADD of a Dockerfile do.

    ``owner``: as a job's user; "": as the files are. ``mode``: None for the files' own. ``glob``: ``source`` is a
    pattern. ``unpack``: a file that is an archive is unpacked.
    """

    origin: Origin
    source: str
    target: str
    owner: str
    mode: int | None = None
    glob: bool = False
    unpack: bool = False


@dataclass(frozen=True)
class Folder:
    """A step that makes a folder, as WORKDIR of a Dockerfile does."""

    target: str
    owner: str


@dataclass(frozen=True)
class Oci:
    """A step that unpacks one layer of a pulled image. ``blob``: its SHA-256; ``media``: its type, for messages."""

    blob: str
    media: str


Step = Debian | Run | Copy | Folder | Oci


@dataclass(frozen=True)
class Job:
    """One layer to make. ``parents``: lowest first. ``user``: a name or number of the image, or ``user:group``."""

    layer: str
    parents: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    user: str
    step: Step

    @property
    def folders(self) -> tuple[str, ...]:
        """The bundles that the step reads."""
        return tuple(dict.fromkeys(origin.folder for origin in self._origins if origin.folder))

    @property
    def stages(self) -> tuple[str, ...]:
        """The layers of other stages that the step reads."""
        return tuple(dict.fromkeys(layer for origin in self._origins for layer in origin.layers))

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets that the step gets."""
        return self.step.secrets if isinstance(self.step, Run) else ()

    @property
    def _origins(self) -> tuple[Origin, ...]:
        if isinstance(self.step, Copy):
            return (self.step.origin,)
        mounts = self.step.mounts if isinstance(self.step, Run) else ()
        return tuple(mount.origin for mount in mounts if mount.origin is not None)


def parse(text: bytes) -> Job:
    """Return the job in a credential. Raises :class:`Failed` for anything that is not as expected."""
    try:
        return _job(json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise Failed(EX_CONFIG, f"the job cannot be read: {type(error).__name__}: {error}") from error


def _job(data: Any) -> Job:
    _only(data, "format", "layer", "parents", "env", "cwd", "user", "step")
    if data["format"] != FORMAT:
        raise ValueError("unknown format")
    step = data["step"]
    parents = _each(data["parents"], lambda each: _match(LAYER, each))
    if step["kind"] == "debian" and parents:
        raise ValueError("a Debian has no parents")
    return Job(
        layer=_match(LAYER, data["layer"]),
        parents=parents,
        env={_match(_VARIABLE, name): _text(value) for name, value in data["env"].items()},
        cwd=_path(data["cwd"]),
        user=_match(_OWNER, data["user"]),
        step=_STEPS[step["kind"]](step),
    )


def _debian(step: dict[str, Any]) -> Debian:
    _only(step, "kind", "suite", "packages")
    return Debian(_match(_SUITE, step["suite"]), _each(step["packages"], lambda each: _match(_PACKAGE, each)))


def _run(step: dict[str, Any]) -> Run:
    _only(step, "kind", "argv", "show", "mounts", "caches", "secrets", "tmpfs")
    argv = _each(step["argv"], _text)
    if not argv or not argv[0]:
        raise ValueError("no command")
    return Run(
        argv=argv,
        show=_text(step["show"]),
        mounts=_each(step["mounts"], _mount),
        caches=_each(step["caches"], _below),
        secrets=_each(step["secrets"], _secret),
        empty=_each(step.get("tmpfs", []), _below),
    )


def _copy(step: dict[str, Any]) -> Copy:
    _only(step, "kind", "folder", "from", "source", "target", "owner", "mode", "glob", "unpack")
    origin, unpack, mode = _origin(step), _flag(step, "unpack"), step.get("mode")
    if unpack and not origin.folder:
        raise ValueError("only files of a bundle are unpacked")
    if not step["owner"] and origin.folder and not unpack:
        raise ValueError("files of a bundle have no owner of their own")
    return Copy(
        origin=origin,
        source=_inner(step["source"]),
        target=_path(step["target"]) + ("/" if step["target"].endswith("/") else ""),
        owner=_match(_OWNER, step["owner"]) if step["owner"] else _text(step["owner"]),
        mode=None if mode is None else int(_match(_MODE, mode), 8),
        glob=_flag(step, "glob"),
        unpack=unpack,
    )


def _folder(step: dict[str, Any]) -> Folder:
    _only(step, "kind", "target", "owner")
    return Folder(_path(step["target"]), _match(_OWNER, step["owner"]))


def _oci(step: dict[str, Any]) -> Oci:
    _only(step, "kind", "blob", "media")
    return Oci(_match(DIGEST, step["blob"]).partition(":")[2], _text(step["media"]))


def _mount(data: dict[str, Any]) -> Mount:
    target, writable = _below(data["target"]), _flag(data, "writable")
    if "text" in data:
        _only(data, "text", "target", "writable")
        return Mount(None, "", target, writable, _text(data["text"]))
    _only(data, "folder", "from", "source", "target", "writable")
    return Mount(_origin(data), _inner(data["source"]), target, writable)


def _origin(data: dict[str, Any]) -> Origin:
    if ("folder" in data) == ("from" in data):
        raise ValueError("files come from a bundle or from a stage")
    if "folder" in data:
        return Origin(_match(FOLDER, data["folder"]))
    return Origin("", _each(data["from"], lambda each: _match(LAYER, each)))


def _secret(data: dict[str, Any]) -> Secret:
    _only(data, "credential", "env", "file")
    env, file = data.get("env", ""), data.get("file", "")
    if bool(env) == bool(file):
        raise ValueError("a secret is a variable or a file")
    return Secret(
        _match(CREDENTIAL, data["credential"]),
        _match(_VARIABLE, env) if env else "",
        _below(file) if file else "",
    )


_STEPS: dict[str, Callable[[dict[str, Any]], Step]] = {
    "debian": _debian,
    "run": _run,
    "copy": _copy,
    "folder": _folder,
    "oci": _oci,
}


def _only(data: Any, *known: str) -> None:
    """Refuse what has another key: who wrote it means something that would not be done."""
    if not isinstance(data, dict):
        raise TypeError(data)
    if unknown := sorted(set(data) - set(known)):
        raise ValueError(f"unknown key {unknown[0]}")


def _flag(data: dict[str, Any], name: str) -> bool:
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise TypeError(name)
    return value


def _each(values: Any, check: Callable[[Any], _T]) -> tuple[_T, ...]:
    if not isinstance(values, list):
        raise TypeError(values)
    return tuple(check(each) for each in values)


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(value)
    value.encode()  # a lone surrogate is no text
    return value


def _match(pattern: re.Pattern[str], value: Any) -> str:
    if pattern.fullmatch(_text(value)) is None:
        raise ValueError(value)
    return str(value)


def _path(value: Any) -> str:
    """Return an absolute path of the image, without ``..`` and double slashes."""
    parts = _text(value).split("/")
    if parts[0] or ".." in parts:
        raise ValueError(value)
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def _below(value: Any) -> str:
    """Return an absolute path that something can be mounted on: not the image's root."""
    path = _path(value)
    if path == "/":
        raise ValueError(value)
    return path


def _inner(value: Any) -> str:
    """Return a path inside a bundle or a stage; ``.`` is all of it."""
    parts = _text(value).split("/")
    if value.startswith("/") or ".." in parts:
        raise ValueError(value)
    return "/".join(part for part in parts if part not in ("", ".")) or "."
