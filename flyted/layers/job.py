"""Reads a job: which layer to make, above which others, by which step. All of it is checked before a step begins."""

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
_OWNER = re.compile(r"[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.-]+)?")


@dataclass(frozen=True)
class Debian:
    """A step that installs a Debian from the machine's own apt sources. It has no parents."""

    suite: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Mount:
    """A file or folder of a bundle, shown at ``target`` while a command runs."""

    folder: str
    source: str
    target: str
    writable: bool


@dataclass(frozen=True)
class Secret:
    """A credential of the unit that a command gets as a variable or as a file; the other one is empty."""

    credential: str
    env: str
    file: str


@dataclass(frozen=True)
class Run:
    """A step that runs a command. ``show``: its name for people. ``caches``: folders that are not kept."""

    argv: tuple[str, ...]
    show: str
    mounts: tuple[Mount, ...]
    caches: tuple[str, ...]
    secrets: tuple[Secret, ...]


@dataclass(frozen=True)
class Copy:
    """A step that copies files of a bundle, as COPY of a Dockerfile does."""

    folder: str
    source: str
    target: str
    owner: str


@dataclass(frozen=True)
class Oci:
    """A step that unpacks one layer of a pulled image. ``blob``: its SHA-256; ``media``: its type, for messages."""

    blob: str
    media: str


@dataclass(frozen=True)
class Job:
    """One layer to make. ``parents``: lowest first. ``user``: a name or number of the image, or ``user:group``."""

    layer: str
    parents: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    user: str
    step: Debian | Run | Copy | Oci

    @property
    def folders(self) -> tuple[str, ...]:
        """The bundles that the step reads."""
        if isinstance(self.step, Copy):
            return (self.step.folder,)
        return tuple(dict.fromkeys(m.folder for m in self.step.mounts)) if isinstance(self.step, Run) else ()

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets that the step gets."""
        return self.step.secrets if isinstance(self.step, Run) else ()


def parse(text: bytes) -> Job:
    """Return the job in a credential. Raises :class:`Failed` for anything that is not as expected."""
    try:
        return _job(json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise Failed(EX_CONFIG, f"the job cannot be read: {type(error).__name__}: {error}") from error


def _job(data: Any) -> Job:
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
    return Debian(_match(_SUITE, step["suite"]), _each(step["packages"], lambda each: _match(_PACKAGE, each)))


def _run(step: dict[str, Any]) -> Run:
    argv = _each(step["argv"], _text)
    if not argv or not argv[0]:
        raise ValueError("no command")
    return Run(
        argv=argv,
        show=_text(step["show"]),
        mounts=_each(step["mounts"], _mount),
        caches=_each(step["caches"], _path),
        secrets=_each(step["secrets"], _secret),
    )


def _copy(step: dict[str, Any]) -> Copy:
    target = _path(step["target"]) + ("/" if step["target"].endswith("/") else "")
    return Copy(_match(FOLDER, step["folder"]), _inner(step["source"]), target, _match(_OWNER, step["owner"]))


def _oci(step: dict[str, Any]) -> Oci:
    return Oci(_match(DIGEST, step["blob"]).partition(":")[2], _text(step["media"]))


def _mount(data: dict[str, Any]) -> Mount:
    if not isinstance(data["writable"], bool):
        raise TypeError("writable")
    return Mount(_match(FOLDER, data["folder"]), _inner(data["source"]), _path(data["target"]), data["writable"])


def _secret(data: dict[str, Any]) -> Secret:
    env, file = data.get("env", ""), data.get("file", "")
    if bool(env) == bool(file):
        raise ValueError("a secret is a variable or a file")
    return Secret(
        _match(CREDENTIAL, data["credential"]),
        _match(_VARIABLE, env) if env else "",
        _path(file) if file else "",
    )


_STEPS: dict[str, Callable[[dict[str, Any]], Debian | Run | Copy | Oci]] = {
    "debian": _debian,
    "run": _run,
    "copy": _copy,
    "oci": _oci,
}


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


def _inner(value: Any) -> str:
    """Return a path inside a bundle; ``.`` is all of it."""
    parts = _text(value).split("/")
    if value.startswith("/") or ".." in parts:
        raise ValueError(value)
    return "/".join(part for part in parts if part not in ("", ".")) or "."
