"""Finds out whether the script that an image starts with needs root in any case. Pure.

Most such scripts look whether they are root first, and run as well without: postgres', redis', mysql's. So one is
refused only for what it does on no condition, and if nothing in it asks who runs it. All others show at their start.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput
from flyted.contract.fserve import split
from flyted.contract.names import printable
from flyted.plan.facts import RootFact
from flyted.plan.images.shell_script import Block, Command, Unreadable, every, parse

SHELLS = frozenset(("sh", "bash", "dash", "ash"))
BECOMES = frozenset(("gosu", "su-exec", "su", "sudo", "runuser", "setpriv", "chown", "chroot", "s6-svscan", "sshd"))
"""Programs that need root, to act as another user or to give a file to one."""
_AS_USER = frozenset(("gosu", "su-exec"))  # USER PROGRAM…
_WRAPPERS = frozenset(("tini", "dumb-init", "catatonit", "docker-init", "env"))
_SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_BYTES = 1 << 16
_FIRST_LINE = re.compile(r"#!\s*(\S+)(?:[ \t]+(.*))?")
_ASKS = re.compile(
    r"\bid\s+-[a-zA-Z]*[unGg]|\bwhoami\b|\bEUID\b|\bgetuid\b|(?:\[|\btest\b|\bcase\b)[^\n]*\$\{?(?:UID|USER|HOME)\b"
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_JOINED = frozenset(("&&", "||", "|", "|&"))
_MOST_CALLS = 100
_MOST_COMMANDS = 20_000


@dataclass(frozen=True)
class Needs:
    """What needs root, and the words that the script ends in; "$@" stands for its arguments. None: not known."""

    program: str
    ends_in: tuple[str, ...] | None


def check(spec: AppSpec, root: RootFact, env: Mapping[str, str], read: Callable[[str, int], str]) -> None:
    """Raise :class:`InvalidInput` for an app whose program is a script of its image that needs root.

    ``env``: the image's variables. ``read(path, limit)``: the text of a file of the image, "" if there is none.
    """
    head, args = split(spec.command)
    command = args if head else list(spec.command)
    if posixpath.basename(next(iter(command), "")) in SHELLS:
        command = list(itertools.dropwhile(lambda word: word.startswith("-") and word != "-c", command[1:]))
    else:
        command = _unwrapped(command)
    if not command or command[0] == "-c":  # a line of its own, which root_check.py reads
        return
    text = next(filter(None, (read(path, _MOST_BYTES) for path in _paths(command[0], root, env))), "")
    needs = needs_root(text) if len(text.encode()) < _MOST_BYTES else None
    if needs is not None:
        raise InvalidInput(
            f"app '{spec.key}' starts {printable(command[0])}, a script that runs {needs.program}, which needs root: "
            "an app is no user of its image, and cannot become one",
            hint=f"name the program that it starts in the end: {_instead(needs, command[1:])}; folders that it has to "
            "write to have to be a VOLUME of the image",
        )


def needs_root(text: str) -> Needs | None:
    """Return what a script needs root for, whatever it is called with; ``None``: nothing, or nobody can say."""
    first = _FIRST_LINE.match(text)
    if first is None or _ASKS.search(text):
        return None
    interpreter, option = posixpath.basename(first[1]), (first[2] or "").strip()
    if interpreter in ("env", "busybox"):
        interpreter, _, option = option.partition(" ")
    if interpreter not in SHELLS:
        return None
    try:
        nodes = parse(text)
    except Unreadable:
        return None
    walk = _Walk(_fatal([option]))
    walk.commands(nodes)
    return walk.found


def _unwrapped(words: Sequence[str]) -> list[str]:
    """Return a command without the programs that only start another one."""
    found = list(words)
    while found and posixpath.basename(found[0]) in _WRAPPERS:
        found = list(itertools.dropwhile(lambda word: word.startswith("-") or _ASSIGNMENT.match(word), found[1:]))
    return found


def _paths(program: str, root: RootFact, env: Mapping[str, str]) -> list[str]:
    if "/" in program:
        return [posixpath.join("/", root.workdir, program)]
    return [posixpath.join(each, program) for each in env.get("PATH", _SEARCHED).split(":") if each.startswith("/")]


def _instead(needs: Needs, args: Sequence[str]) -> str:
    words: list[str] = []
    for word in needs.ends_in or ():
        words += args if word in ("$@", "$*") else [word]
    if not words or any("$" in word or "`" in word for word in words):
        return "command=[...]"
    return f"command=[{', '.join(map(_quoted, words))}]"


def _quoted(word: str) -> str:
    plain = "".join(char if char.isprintable() else "?" for char in word)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _fatal(options: Sequence[str]) -> bool:
    """Report whether a failed command ends the script, by these options of a shell."""
    return any(re.fullmatch(r"-[a-zA-Z]*e[a-zA-Z]*", each) for word in options for each in word.split()) or (
        "errexit" in options
    )


@dataclass
class _Walk:
    """A way through a script, along what it does on no condition, until it ends or nobody can say whether it does."""

    fatal: bool
    found: Needs | None = None
    functions: dict[str, list[Command | Block]] = field(default_factory=dict)
    calls: int = 0
    looked_at: int = 0

    def commands(self, nodes: list[Command | Block]) -> bool:
        """Report whether the script goes on behind these."""
        for node in nodes:
            if isinstance(node, Command):
                if not self._command(node):
                    return False
            elif node.function:
                self.functions[node.function] = node.inside
            elif self._may_end(node.inside):
                return False
        return True

    def _command(self, command: Command) -> bool:
        words = list(command.words)
        while words and _ASSIGNMENT.match(words[0]):
            words.pop(0)
        if not words or command.before in _JOINED:
            return not self._may_end([command])
        name, args = words[0], words[1:]
        if name in self.functions:
            return not self._is_one_too_many() and self.commands(self.functions[name])
        if name == "set" and args and args[0] != "--":
            self.fatal = _fatal(args) or (self.fatal and "+e" not in args)
        if name in ("exit", "return"):
            return False
        if name == "exec" and args:
            self._ends(args)
            return False
        program = _needing(words)
        if program and self.fatal and command.after not in _JOINED | {"&"} and self.found is None:
            self.found = Needs(program, None)
        return True

    def _ends(self, words: list[str]) -> None:
        words = _unwrapped(words)
        program = _needing(words) if words else ""
        if program in _AS_USER:
            words = words[2:]
        ends_in = None if program and program not in _AS_USER else tuple(words)
        if program or self.found:
            self.found = Needs(self.found.program if self.found else program, ends_in)

    def _may_end(self, nodes: list[Command | Block]) -> bool:
        """Report whether one of these commands may end the script well, so that what comes after them never runs."""
        for command in every(nodes):
            self.looked_at += 1
            words = [each for each in command.words if not _ASSIGNMENT.match(each)]
            name, args = (words[0], words[1:]) if words else ("", [])
            if name == "exec" and args and not _needing(_unwrapped(args) or args):
                return True
            if name in ("exit", "return") and not (args and args[0].isdigit() and int(args[0])):
                return True
            if name in self.functions and (self._is_one_too_many() or self._may_end(self.functions[name])):
                return True
        return self.looked_at > _MOST_COMMANDS

    def _is_one_too_many(self) -> bool:
        """Count a call, and report whether it is not followed: nobody knows what a script does that calls so often."""
        self.calls += 1
        return self.calls > _MOST_CALLS


def _needing(words: Sequence[str]) -> str:
    """Return the program of a command if it needs root; else ""."""
    name = posixpath.basename(words[0])
    if name == "setpriv" and not any(each.startswith(("--re", "--ru", "--rg", "--eu", "--eg")) for each in words):
        return ""
    return name if name in BECOMES else ""
