"""Applies the steps of a stage to its state (variables, user, folder), and yields what each builds. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flyted.contract.app import MAX_ENV
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import printable, shortened
from flyted.layers.words import PATH
from flyted.plan.images.oci_config import MAX_LISTED
from flyted.plan.images.root import (
    SHELL,
    Add,
    Arg,
    BuildSecret,
    Copy,
    Env,
    ImageConfig,
    Mount,
    Run,
    Set,
    SetWords,
    Step,
)
from flyted.plan.images.text import Text, expand, is_text

MAX_COMMAND = 120 << 10
"""One argument of execve(2) may have 128 KiB; also a bound for a job, which is a credential (1 MiB)."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")
_SHELLS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The variables that a command can name; others stay the image's."""
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?")
_PORT = re.compile(r"(\d{1,5}(?:-\d{1,5})?)(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:https?|git|ssh)://|git@", re.IGNORECASE)


@dataclass(frozen=True)
class Made:
    """What one layer is made by: the job's step and, for a command, the variables, folder and user that it sees."""

    step: dict[str, Any]
    surroundings: dict[str, Any] | None = None
    secrets: tuple[BuildSecret, ...] = ()


@dataclass
class State:
    """A stage as it is after some of its steps."""

    arguments: Mapping[str, str]  # set before the first FROM; a stage has to ask for them
    base: ImageConfig
    stage: State | None = None  # the earlier stage on which this one is based
    layers: list[str] = field(default_factory=list)
    args: dict[str, str] = field(default_factory=dict)
    shell: tuple[str, ...] = SHELL
    own_cmd: bool = False

    def __post_init__(self) -> None:
        """Begin as the base has it."""
        if self.stage is not None:
            self.layers, self.args, self.shell = list(self.stage.layers), dict(self.stage.args), self.stage.shell
        self.env = {"PATH": PATH, **dict(self.base.env)}
        self.user = self.base.user
        self.workdir = posixpath.normpath(posixpath.join("/", self.base.workdir)).replace("//", "/")
        self.entrypoint, self.cmd = self.base.entrypoint, self.base.cmd
        self.ports, self.volumes = list(self.base.ports), list(self.base.volumes)
        self.folders = {"/", self.workdir}

    def config(self) -> ImageConfig:
        """Return how the program of the image would be run now."""
        return ImageConfig(
            tuple(self.env.items()), self.user, self.workdir, self.entrypoint, self.cmd,
            tuple(dict.fromkeys(self.ports)), tuple(dict.fromkeys(self.volumes)),
        )  # fmt: skip

    def expand(self, text: Text, where: str) -> str:
        """Return a text with the variables of now."""
        return expand(text, {**self.args, **self.env}, where)

    def path(self, text: Text, where: str) -> str:
        """Return an absolute path; it ends with "/" if it was written as a folder.

        Raises :class:`InvalidInput` for a text that is not a path.
        """
        written = self.expand(text, where)
        if "\0" in written:
            raise InvalidInput(f"{where}: {printable(written)} is not a valid path")
        path = posixpath.normpath(posixpath.join("/", self.workdir, written)).replace("//", "/")
        folder = written.endswith(("/", "/.")) or written in {"", "."}
        return f"{path.rstrip('/')}/" if folder else path


@dataclass(frozen=True)
class Origins:
    """Where files come from. ``folders``: see :class:`~flyted.plan.images.root.RootRecipe`.

    ``stages``: the layers of each stage before.
    """

    folders: Mapping[str, str]
    stages: Mapping[int, Sequence[str]]

    def find(self, source: str, stage: int | None, where: str) -> dict[str, Any]:
        """Return where a source is: in the layers of a stage, or in the bundle that holds it most narrowly.

        Raises :class:`InvalidInput` for a path that leads out of the context, or was not sent.
        """
        path = posixpath.normpath(posixpath.join("/", source)).lstrip("/") or "."
        if "\0" in path:
            raise InvalidInput(f"{where}: {printable(source)} is not a valid path")
        if stage is not None:
            return {"from": list(self.stages[stage]), "source": path}
        if ".." in source.split("/"):
            raise InvalidInput(f"{where}: {printable(source)} leads out of the build's context", hint="move it there")
        parts = path.split("/")
        for depth in range(len(parts), 0, -1):
            holder = "/".join(parts[:depth])
            if holder in self.folders and not _is_pattern(holder):
                return {"folder": self.folders[holder], "source": "/".join(parts[depth - 1 :])}
        if "." not in self.folders:
            raise InvalidInput(f"{where}: {printable(source)} was not sent: it is not in the build's context")
        return {"folder": self.folders["."], "source": path}


def apply(step: Step, state: State, origins: Origins) -> Iterator[Made]:
    """Change the state by one step, and yield what is to be made for it.

    Raises :class:`InvalidInput` or :class:`Unsupported` for what comes of the variables.
    """
    for made in _made(step, state, origins):
        if wrong := next((text for text in _texts([made.step, made.surroundings]) if not is_text(text)), None):
            raise InvalidInput(f"{step.where}: {printable(wrong)} contains a NUL or is not Unicode", hint="remove it")
        yield made


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a job."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _made(step: Step, state: State, origins: Origins) -> Iterator[Made]:
    match step:
        case Run():
            yield _run(step, state, origins)
        case Copy():
            yield from _copy(step, state, origins)
        case Set(where, "workdir", value):
            state.workdir = state.path(value, where).rstrip("/") or "/"
            if state.workdir not in state.folders:
                state.folders.add(state.workdir)
                owner = _account(state.user, where) if state.user else "0:0"
                yield Made({"kind": "folder", "target": state.workdir, "owner": owner})
        case _:
            _change(step, state)


def _change(step: Step, state: State) -> None:
    match step:
        case Env(where, pairs):
            values = {name: state.expand(text, where) for name, text in pairs}
            state.env |= {_checked(name, where): _plain(value, where) for name, value in values.items()}
            if len(state.env) > MAX_ENV:
                raise InvalidInput(f"{where}: the image has more than {MAX_ENV} variables")
        case Arg(where, name, value):
            found = state.arguments.get(name) if value is None else state.expand(value, where)
            if found is not None:
                state.args[_checked(name, where)] = _plain(found, where)
        case Set(where, _, value):
            state.user = _account(state.expand(value, where), where)
        case SetWords(_, name, value):
            _set_words(name, value, state)
        case Add(where, "ports" as kind, values):
            ports = (_port(state.expand(each, where), where) for each in values)
            state.ports = _few([*state.ports, *ports], where, kind)
        case Add(where, kind, values):
            state.volumes = _few([*state.volumes, *(_volume(each, where, state) for each in values)], where, kind)


def _few(values: Sequence[str], where: str, kind: str) -> list[str]:
    """Return each value once. Raises :class:`InvalidInput` for too many: each volume is mounted at each start."""
    found = list(dict.fromkeys(values))
    if len(found) > MAX_LISTED:
        raise InvalidInput(f"{where}: the image has more than {MAX_LISTED} {kind}", hint="name fewer")
    return found


def _set_words(name: str, value: str | tuple[str, ...], state: State) -> None:
    if name == "shell":
        state.shell = tuple(value)
    elif name == "cmd":
        state.cmd, state.own_cmd = _words(value, state.shell), True
    else:
        state.entrypoint = _words(value, state.shell)
        if not state.own_cmd:
            state.cmd = ()  # that of the base image was meant for its own entry point


def _run(step: Run, state: State, origins: Origins) -> Made:
    where = step.where
    made: dict[str, Any] = {
        "kind": "run",
        "argv": list(_words(step.command, state.shell)),
        "show": step.show,
        "mounts": [_mount(each, where, state, origins) for each in step.mounts],
        "caches": [_place(each, where, state) for each in step.caches],
        "secrets": [
            {"credential": f"b{number}", **({"env": each.env} if each.env else {"file": each.file})}
            for number, each in enumerate(step.secrets)
        ],
    }
    if step.empty:
        made["tmpfs"] = [_place(each, where, state) for each in step.empty]
    if not made["argv"][0]:
        raise InvalidInput(f"{where}: the command has no program", hint="RUN COMMAND")
    if sum(map(len, made["argv"])) > MAX_COMMAND:
        raise InvalidInput(f"{where}: the command is longer than {MAX_COMMAND >> 10} KiB", hint="copy a script")
    env = {name: value for name, value in {**state.args, **state.env}.items() if _SHELLS.fullmatch(name)}
    if sum(len(name) + len(value) for name, value in env.items()) > MAX_COMMAND:
        raise InvalidInput(f"{where}: the variables are longer than {MAX_COMMAND >> 10} KiB", hint="set fewer")
    user = _account(state.user, where) if state.user else "root"
    return Made(made, {"env": env, "cwd": state.workdir, "user": user}, step.secrets)


def _mount(mount: Mount, where: str, state: State, origins: Origins) -> dict[str, Any]:
    source = state.expand(mount.source, where)
    content = {"text": mount.text} if mount.text is not None else origins.find(source, mount.stage, where)
    return {**content, "target": _place(mount.target, where, state), "writable": mount.writable}


def _place(text: Text, where: str, state: State) -> str:
    """Return where something is mounted in the image. Raises :class:`InvalidInput` for its root."""
    target = state.path(text, where).rstrip("/")
    if not target:
        raise InvalidInput(f"{where}: nothing can be mounted over the image's /", hint="use another target=")
    return target


def _volume(text: Text, where: str, state: State) -> str:
    """Return the path of a volume. Raises :class:`InvalidInput` for the image's root."""
    folder = state.path(text, where).rstrip("/")
    if not folder:
        raise InvalidInput(f"{where}: the image's / cannot be a volume", hint="use a folder, such as /data")
    return folder


def _copy(step: Copy, state: State, origins: Origins) -> Iterator[Made]:
    where = step.where
    target = state.path(step.target, where)
    if len(step.sources) > 1 and not target.endswith("/"):
        raise InvalidInput(
            f"{where}: several files are copied to {printable(target)}, which is not a folder", hint="end it with /"
        )
    owner = state.expand(step.owner, where)
    usual = "" if step.unpack or step.stage is not None else "0:0"  # "": as the archive or the stage has it
    more: dict[str, Any] = {"target": target, "owner": _account(owner, where) if owner else usual}
    more |= {"mode": step.mode} if step.mode else {}
    for text in step.sources:
        source = state.expand(text, where)
        if _ADDRESS.match(source):
            raise Unsupported(
                f"{where}: {printable(source)} is an address, and ADD does not download files here",
                hint=f"RUN curl -fsSL -o {shortened(target)} ADDRESS, or download the file and COPY it",
            )
        unpack = {"unpack": True} if step.unpack else {}
        found = origins.find(source, step.stage, where)
        glob = {"glob": True} if _is_pattern(found["source"]) else {}
        yield Made({"kind": "copy", **found, **more, **glob, **unpack})


def _is_pattern(path: str) -> bool:
    return any(char in path for char in "*?[")


def _words(command: str | tuple[str, ...], shell: tuple[str, ...]) -> tuple[str, ...]:
    return (*shell, command) if isinstance(command, str) else command


def _checked(name: str, where: str) -> str:
    if _VARIABLE.fullmatch(name) is None:
        raise InvalidInput(
            f"{where}: {printable(name)} is not a valid name of a variable", hint="use A-Z, 0-9 and '_'"
        )
    return name


def _plain(value: str, where: str) -> str:
    if "\0" in value:
        raise InvalidInput(f"{where}: the value contains a NUL character", hint="remove it")
    return value


def _account(value: str, where: str) -> str:
    if _USER.fullmatch(value) is None:
        raise InvalidInput(
            f"{where}: {printable(value)} is not a valid user", hint="use a name or number, such as USER or USER:GROUP"
        )
    return value


def _port(value: str, where: str) -> str:
    found = _PORT.fullmatch(value)
    if found is None:
        raise InvalidInput(
            f"{where}: {printable(value)} is not a valid port", hint="use a number, such as 8080 or 8080/tcp"
        )
    return f"{found[1]}/{(found[2] or 'tcp').lower()}"
