"""Reads the lines of a Dockerfile: directives, comments, continued lines, here-documents, options. Pure.

Sources: the reference of Dockerfile; buildkit's frontend/dockerfile/parser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable, shortened

MAX_BYTES = 256 << 10
MAX_INSTRUCTIONS = 512
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(\S.*)")
_OPTION = re.compile(r"--([A-Za-z][A-Za-z-]*)(?:=((?:\"[^\"]*\"|'[^']*'|\S)*))?(?:\s+|$)")
_DOCUMENT = re.compile(
    r"""(?:^|(?<=\s))\d*<<(?P<tabs>-?)(?P<quote>["']?)(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)(?P=quote)(?=[\s;&|)>]|$)"""
    r"""|'[^']*'|"(?:\\.|[^"\\])*"|\\."""
)
_DOCUMENTS_IN = frozenset({"RUN", "COPY", "ADD"})


@dataclass(frozen=True)
class Document:
    """A here-document: its unchanged text, and the line that ends it."""

    name: str
    text: str


@dataclass(frozen=True)
class Instruction:
    """One instruction. ``rest``: all but its name and options. ``documents``: its here-documents."""

    where: str  # "Dockerfile:7: RUN", for messages
    name: str  # in capitals
    options: tuple[tuple[str, str], ...]
    rest: str
    escape: str = "\\"
    documents: tuple[Document, ...] = field(default=())

    def words(self) -> tuple[str, ...] | None:
        """Return the words of the JSON form; ``None`` for any other text, which is then for the shell."""
        try:
            found = json.loads(self.rest) if self.rest.startswith("[") else None
        except (ValueError, RecursionError):
            return None
        return tuple(found) if isinstance(found, list) and all(isinstance(each, str) for each in found) else None

    def split(self) -> tuple[str, ...]:
        """Return the words that white space separates, outside quotes; quotes and escapes stay."""
        escaped = re.escape(self.escape)
        pattern = rf"""(?:{escaped}.|'[^']*'|"(?:{escaped}.|[^"{escaped}])*"|\S)+"""
        return tuple(found[0] for found in re.finditer(pattern, self.rest, re.DOTALL))


def instructions(text: str, name: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile. ``name``: the file's, for messages.

    Raises :class:`InvalidInput` for a file that is empty or too large, and for a here-document that does not end.
    """
    if len(text) > MAX_BYTES:
        raise InvalidInput(f"{name} is larger than {MAX_BYTES >> 10} KiB")
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    reader = _Lines(lines, name)
    found = list(reader.instructions())
    if not found:
        raise InvalidInput(f"{name} has no instruction", hint="begin it with FROM")
    if len(found) > MAX_INSTRUCTIONS:
        raise InvalidInput(f"{name} has more than {MAX_INSTRUCTIONS} instructions")
    return found


class _Lines:
    def __init__(self, lines: list[str], name: str) -> None:
        self.lines, self.name, self.at = lines, name, 0
        self.escape = self._directives()

    def _directives(self) -> str:
        """Return the escape character. The directives end at the first line that is none; ``syntax`` says nothing."""
        for line in self.lines:
            found = _DIRECTIVE.fullmatch(line.strip())
            if found is None:
                break
            if found[1].lower() == "escape":
                if found[2] not in {"\\", "`"}:
                    raise InvalidInput(f"{self.name}: escape={printable(found[2])} must be \\ or `")
                return found[2]
        return "\\"

    def instructions(self) -> Iterator[Instruction]:
        while self.at < len(self.lines):
            first = self.at + 1
            line = self._logical()
            if line:
                yield self._instruction(line, first)

    def _logical(self) -> str:
        """Return one logical line: comments and empty lines inside it do not count."""
        whole = ""
        ends = re.compile(rf"{re.escape(self.escape)}[ \t]*$")
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if not line.strip() or line.lstrip().startswith("#"):
                if not whole:
                    return ""
                continue
            joined = ends.search(line)
            whole += line[: joined.start()] if joined else line
            if joined is None:
                break
        return whole.strip()

    def _instruction(self, line: str, number: int) -> Instruction:
        name, _, rest = re.sub(r"\s", " ", line, count=1).partition(" ")
        where = f"{self.name}:{number}"
        if name.isascii() and name.isalpha():
            where += f": {shortened(name.upper())}"
        rest, options = rest.strip(), []
        while found := _OPTION.match(rest):
            options.append((found[1], found[2] or ""))
            rest = rest[found.end() :]
        documents = tuple(self._documents(rest, where)) if name.upper() in _DOCUMENTS_IN else ()
        return Instruction(where, name.upper(), tuple(options), rest, self.escape, documents)

    def _documents(self, rest: str, where: str) -> Iterator[Document]:
        for found in _DOCUMENT.finditer(rest):
            if found["name"] is None:
                continue
            taken = []
            while self.at < len(self.lines):
                line = self.lines[self.at]
                self.at += 1
                if (line.lstrip("\t") if found["tabs"] else line) == found["name"]:
                    break
                taken.append(line.lstrip("\t") if found["tabs"] else line)
            else:
                end = shortened(found["name"])
                raise InvalidInput(f"{where}: the here-document does not end", hint=f"a line {end} ends it")
            yield Document(found["name"], "".join(f"{each}\n" for each in taken))
