"""Turns a Dockerfile into a root recipe. What cannot be honoured is refused by file, line and instruction. Pure.

Source: the reference of Dockerfile (version 1.10 of its syntax, as Flyte's own builder asks for).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import printable, shortened
from flyted.plan.images.dockerfile_lines import Instruction, instructions
from flyted.plan.images.dockerfile_run import command_of, mount_of, mounts_of, secret_of, target_of
from flyted.plan.images.pull_unit import platform_of
from flyted.plan.images.root import (
    Add,
    Arg,
    Base,
    Copy,
    Env,
    OciBase,
    RootRecipe,
    Run,
    Scratch,
    Set,
    SetWords,
    Stage,
    StageBase,
    Step,
    reference,
)
from flyted.plan.images.text import expand, word

_STAGE = re.compile(r"[a-z][a-z0-9._-]*")
_OPTIONS = {
    "FROM": {"platform"}, "RUN": {"mount", "network", "security"}, "COPY": {"from", "chown", "chmod", "link"},
    "ADD": {"chown", "chmod", "link"},
    "HEALTHCHECK": {"interval", "timeout", "start-period", "start-interval", "retries"},
}  # fmt: skip


def recipe_of_dockerfile(text: str, name: str, folders: Mapping[str, str], arch: str) -> RootRecipe:
    """Return the recipe of a Dockerfile. The last stage is the image.

    ``name``: the file's, for messages. ``folders``: see :class:`RootRecipe`. ``arch``: this machine's, as of uname -m.
    Raises :class:`InvalidInput` for what is no Dockerfile, :class:`Unsupported` for what this machine cannot honour.
    """
    reader = _Reader(arch, name)
    for instruction in instructions(text, name):
        reader.read(instruction)
    return reader.finished(folders)


class _Reader:
    def __init__(self, arch: str, name: str) -> None:
        platform = platform_of(arch)
        own = {"PLATFORM": platform, "OS": "linux", "ARCH": platform.partition("/")[2], "VARIANT": ""}
        self.arguments = {f"{side}{key}": value for side in ("TARGET", "BUILD") for key, value in own.items()}
        self.name, self.own = name, own["PLATFORM"]
        self.stages: list[Stage] = []
        self.numbers: dict[str, int] = {}  # name, or place in the file, → number of the stage
        self.notes: list[str] = []
        self.base: Base | None = None
        self.called = ""
        self.steps: list[Step] = []
        self.places = 0

    def read(self, given: Instruction) -> None:
        for option, _ in given.options:
            if option not in _OPTIONS.get(given.name, set()):
                raise Unsupported(f"{given.where}: option --{shortened(option)} is not supported", hint="remove it")
        if given.name == "FROM":
            self._from(given)
        elif self.base is not None:
            self._in_stage(given)
        elif given.name == "ARG":
            for step in _args(given):
                if step.value is not None:
                    self.arguments[step.name] = expand(step.value, self.arguments, given.where)
        else:
            raise InvalidInput(f"{given.where}: FROM must come first", hint="begin the file with FROM IMAGE")

    def _in_stage(self, given: Instruction) -> None:
        if given.name == "RUN":
            self.steps.append(self._run(given))
        elif given.name in {"COPY", "ADD"}:
            self.steps.append(self._copy(given))
        elif given.name in _STEPS:
            self.steps += _STEPS[given.name](given)
        elif given.name in _NOTES:
            note = _NOTES[given.name](given)
            self.notes += [note] if note else []
        else:
            raise _refused(given)

    def finished(self, folders: Mapping[str, str]) -> RootRecipe:
        self._end()
        if not self.stages:
            raise InvalidInput(f"{self.name} has no FROM", hint="begin it with FROM IMAGE")
        return RootRecipe(
            tuple(self.stages), tuple(sorted(folders.items())), tuple(self.arguments.items()), tuple(self.notes)
        )

    def _end(self) -> None:
        """Finish the stage that is being read."""
        if self.base is not None:
            self.numbers[str(self.places)] = len(self.stages)
            if self.called:
                self.numbers[self.called] = len(self.stages)
            self.places += 1
            self.stages.append(Stage(self.base, tuple(self.steps)))
            self.base, self.steps, self.called = None, [], ""

    def _from(self, given: Instruction) -> None:
        self._end()
        words = given.split()
        if len(words) not in {1, 3} or (len(words) == 3 and words[1].upper() != "AS"):
            raise InvalidInput(f"{given.where}: {printable(given.rest)} is not an image", hint="FROM IMAGE [AS NAME]")
        named = expand(word(words[0], given.where, given.escape), self.arguments, given.where)
        asked = dict(given.options).get("platform", "")
        if asked and expand(word(asked, given.where), self.arguments, given.where) not in {"", self.own}:
            raise Unsupported(
                f"{given.where}: --platform={printable(asked)} is not this machine's, {self.own}",
                hint="remove --platform",
            )
        self.called = words[2].lower() if len(words) == 3 else ""
        if self.called and _STAGE.fullmatch(self.called) is None:
            raise InvalidInput(
                f"{given.where}: {printable(words[2])} is not a valid name of a stage", hint="use a-z and 0-9"
            )
        if named.lower() in self.numbers and not named.isdigit():
            self.base = StageBase(self.numbers[named.lower()])
        else:
            self.base = Scratch() if named == "scratch" else OciBase(reference(named, given.where))

    def _stage(self, named: str, where: str) -> int:
        """Return the number of the stage that ``from=`` names: an earlier one, else an image that is copied from."""
        if named.lower() not in self.numbers:
            if named.isdigit() or named.lower() == self.called:
                raise InvalidInput(f"{where}: no earlier stage is named {printable(named)}", hint="FROM IMAGE AS NAME")
            self.stages.append(Stage(OciBase(reference(named, where))))
            self.numbers[named.lower()] = len(self.stages) - 1
        return self.numbers[named.lower()]

    def _run(self, given: Instruction) -> Run:
        kinds = mounts_of(given)
        for option, value in given.options:
            if option in {"network", "security"} and value not in {"default", "sandbox"}:
                raise Unsupported(f"{given.where}: --{option}={printable(value)} is not supported", hint="remove it")
        return Run(
            given.where,
            command_of(given),
            f"{given.name} {given.rest}"[:200],
            tuple(mount_of(each, given, self._stage) for each in kinds["bind"]),
            tuple(target_of(each, given) for each in kinds["cache"]),
            tuple(target_of(each, given) for each in kinds["tmpfs"]),
            tuple(secret_of(each, given) for each in kinds["secret"]),
        )

    def _copy(self, given: Instruction) -> Copy:
        where, options = given.where, dict(given.options)
        if given.documents:
            raise Unsupported(
                f"{where}: a here-document is not supported here",
                hint="write the file beside the Dockerfile, and COPY it",
            )
        words = given.words() or tuple(given.rest.split())
        if len(words) < 2:
            raise InvalidInput(f"{where}: two paths are needed", hint=f"{given.name} SOURCE TARGET")
        mode = options.get("chmod", "")
        if mode and re.fullmatch(r"[0-7]{3,4}", mode) is None:
            raise Unsupported(
                f"{where}: --chmod={printable(mode)} is not supported", hint="use digits, such as --chmod=755"
            )
        *sources, target = (word(each, where, given.escape) for each in words)
        return Copy(
            where, tuple(sources), target, self._stage(options["from"], where) if options.get("from") else None,
            word(options.get("chown", ""), where, given.escape), mode, given.name == "ADD",
        )  # fmt: skip


def _args(given: Instruction) -> list[Arg]:
    found = []
    for each in given.split():
        name, equals, value = each.partition("=")
        found.append(Arg(given.where, name, word(value, given.where, given.escape) if equals else None))
    if not found:
        raise InvalidInput(f"{given.where}: no variable is named", hint="ARG NAME=value")
    return found


def _env(given: Instruction) -> list[Step]:
    words = given.split()
    if words and "=" not in words[0]:  # the older form: ENV NAME value with spaces
        value = given.rest[len(words[0]) :].strip()
        pairs = [(words[0], value)] if value else []
    else:
        pairs = [(name, value) for name, equals, value in (each.partition("=") for each in words) if equals]
    if not pairs or (len(pairs) < len(words) and "=" in words[0]):
        raise InvalidInput(f"{given.where}: {printable(given.rest)} sets no variable", hint='ENV NAME="value"')
    return [Env(given.where, tuple((name, word(value, given.where, given.escape)) for name, value in pairs))]


def _set(name: str) -> Callable[[Instruction], list[Step]]:
    def read(given: Instruction) -> list[Step]:
        if not given.rest:
            raise InvalidInput(f"{given.where}: its value is missing", hint=f"{given.name} VALUE")
        return [Set(given.where, name, word(given.rest, given.where, given.escape))]

    return read


def _set_words(name: str) -> Callable[[Instruction], list[Step]]:
    def read(given: Instruction) -> list[Step]:
        words = given.words()
        if name == "shell" and not words:
            raise InvalidInput(f"{given.where}: the JSON form is needed", hint='SHELL ["/bin/bash", "-c"]')
        return [SetWords(given.where, name, given.rest if words is None else words)]

    return read


def _add(name: str) -> Callable[[Instruction], list[Step]]:
    def read(given: Instruction) -> list[Step]:
        words = given.words() or tuple(given.rest.split())
        return [Add(given.where, name, tuple(word(each, given.where, given.escape) for each in words))]

    return read


def _health(given: Instruction) -> str:
    none = given.rest.strip().upper() == "NONE"
    return "" if none else f"{given.where} is ignored: the app is ready when its port answers (--ready-path)"


def _signal(given: Instruction) -> str:
    usual = given.rest.strip().upper().removeprefix("SIG") in {"TERM", "15"}
    return "" if usual else f"{given.where} is ignored: apps are stopped by SIGTERM"


def _refused(given: Instruction) -> InvalidInput | Unsupported:
    if given.name == "ONBUILD":
        return Unsupported(
            f"{given.where} is not supported", hint="write the instruction into the Dockerfile that is based on it"
        )
    return InvalidInput(
        f"{given.where}: {printable(given.name)} is not an instruction of a Dockerfile",
        hint="see the Dockerfile reference",
    )


_STEPS: dict[str, Callable[[Instruction], list[Step]]] = {
    "ENV": _env,
    "ARG": lambda given: list(_args(given)),
    "WORKDIR": _set("workdir"),
    "USER": _set("user"),
    "SHELL": _set_words("shell"),
    "ENTRYPOINT": _set_words("entrypoint"),
    "CMD": _set_words("cmd"),
    "EXPOSE": _add("ports"),
    "VOLUME": _add("volumes"),
}
_NOTES: dict[str, Callable[[Instruction], str]] = {
    "HEALTHCHECK": _health,
    "STOPSIGNAL": _signal,
    "LABEL": lambda _: "",
    "MAINTAINER": lambda _: "",
}
"""Instructions that change no layer → the note about each; "": nothing is lost without it."""
