"""Finds out whether the script that an image starts with needs root in any case. Pure.

Most such scripts look whether they are root first, and run as well without: postgres', redis', mysql's. So a script is
refused only if nothing in it asks who runs it, and only for what stands in a line of its own, outside of every block.
This is no shell: a script that is written in another way shows at its start what it needs.
"""

from __future__ import annotations

import itertools
import posixpath
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput
from flyted.contract.fserve import split
from flyted.contract.names import printable
from flyted.plan.facts import RootFact
from flyted.plan.images.root import on_path

SHELLS = frozenset(("sh", "bash", "dash", "ash"))
BECOMES = frozenset(("gosu", "su-exec", "su", "sudo", "runuser", "setpriv", "chown", "chroot", "s6-svscan", "sshd"))
"""Programs that need root, to act as another user or to give a file to one."""
_AS_USER = frozenset(("gosu", "su-exec"))  # USER PROGRAM…
_WRAPPERS = frozenset(("tini", "dumb-init", "catatonit", "docker-init", "env"))
_SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_BYTES = 1 << 16
_FIRST_LINE = re.compile(r"#!\s*(\S+)(?:[ \t]+(.*))?")
_ASKS = re.compile(r"\bid\s+-[a-zA-Z]*[unGg]|\bwhoami\b|\bEUID\b|\bgetuid\b")
_TESTS, _WHO = re.compile(r"\[|\btest\b|\bcase\b"), re.compile(r"\$\{?(?:UID|USER|HOME)\b")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_DOCUMENT = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_OPENS = re.compile(r"(?:if|case|for|while|until|select)\b|.*[{(]$")
_CLOSES = re.compile(r"(?:fi|esac|done)\b|[})]")
_CLOSED = re.compile(r".*(?:\b(?:fi|esac|done)|[})])$")
_MAY_END = re.compile(r"\b(?:exit|return)\b(?!\s+[1-9])|\bexec\s+(?!gosu\b|su-exec\b)\S")
_OPERATOR = re.compile(r"[;&|]|\$\(|`")


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
            "an app does not run as a user of its image and cannot become one",
            hint=f"name the program that it starts in the end: {_instead(needs, command[1:])}; folders that it has to "
            "write to have to be a VOLUME of the image",
        )


def needs_root(text: str) -> Needs | None:
    """Return what a script needs root for, whatever it is called with; ``None``: nothing, or nobody can say."""
    first = _FIRST_LINE.match(text)
    if first is None or _asks(text):
        return None
    interpreter, options = posixpath.basename(first[1]), (first[2] or "").split()
    if interpreter in ("env", "busybox") and options:
        interpreter = options.pop(0)
    if interpreter not in SHELLS:
        return None
    try:
        return _needs(list(_lines(text)), fatal=_fatal(options))
    except ValueError:  # a quote that does not end in its line
        return None


def _asks(text: str) -> bool:
    """Report whether a script asks who runs it."""
    lines = text.split("\n")
    return _ASKS.search(text) is not None or any(
        _WHO.search(line, found.end()) for line in lines if (found := _TESTS.search(line))
    )


def _needs(lines: Sequence[tuple[str, bool]], *, fatal: bool) -> Needs | None:
    """Return what the lines of a script need. ``fatal``: a command that fails ends it."""
    found: Needs | None = None
    for line, inside in lines:
        if inside or (_OPERATOR.search(line) and not line.startswith("exec ")):
            if _MAY_END.search(line):
                return None  # for some arguments it ends before
            continue
        words = list(itertools.dropwhile(_ASSIGNMENT.match, shlex.split(line, comments=True)))
        if not words or words[0] in ("exit", "return"):
            if words:
                break
        elif words[0] == "set":
            fatal = _fatal(words[1:]) or (fatal and "+e" not in words)
        elif words[0] == "exec" and len(words) > 1:
            return _at_end(_unwrapped(words[1:]), found)
        elif fatal and found is None and (program := _needing(words)):
            found = Needs(program, None)
    return found


def _at_end(words: list[str], found: Needs | None) -> Needs | None:
    """Return what a script needs that ends in these words. ``found``: what it needed before."""
    program = _needing(words) if words else ""
    if not program and found is None:
        return None
    words = words[2:] if program in _AS_USER else words
    return Needs(found.program if found else program, tuple(words) if program in ("", *_AS_USER) else None)


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the lines of a script, and whether each is in a block; without comments and here-documents."""
    depth, document = 0, ""
    for line in map(str.strip, text.replace("\\\n", " ").split("\n")):
        if document or not line or line.startswith("#"):
            document = "" if line == document else document
            continue
        if found := _DOCUMENT.search(line):
            document = found[2]
        opens, closes = _OPENS.match(line) is not None, _CLOSES.match(line) is not None
        yield line, depth > 0 or opens or closes or "()" in line or line.startswith("function ")
        depth = max(0, depth + (opens and _CLOSED.match(line) is None) - (closes and not opens))


def _unwrapped(words: Sequence[str]) -> list[str]:
    """Return a command without the programs that only start another one."""
    found = list(words)
    while found and posixpath.basename(found[0]) in _WRAPPERS:
        found = list(itertools.dropwhile(lambda word: word.startswith("-") or _ASSIGNMENT.match(word), found[1:]))
    return found


def _paths(program: str, root: RootFact, env: Mapping[str, str]) -> list[str]:
    if "/" in program:
        return [posixpath.join("/", root.workdir, program)]
    return [posixpath.join(each, program) for each in on_path(env.get("PATH", _SEARCHED))]


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
    return "errexit" in options or any(re.fullmatch(r"-[a-zA-Z]*e[a-zA-Z]*", each) for each in options)


def _needing(words: Sequence[str]) -> str:
    """Return the program of a command if it needs root; else ""."""
    name = posixpath.basename(words[0])
    if name == "setpriv" and not any(each.startswith(("--re", "--ru", "--rg", "--eu", "--eg")) for each in words):
        return ""
    return name if name in BECOMES else ""
