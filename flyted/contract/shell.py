"""Reads an app's ``args`` as the shell of Flyte's fserve does. Pure.

fserve joins ``args`` with blanks and hands the line to ``sh -c`` (flyte/_bin/serve.py: ``main``). Most lines are words
with variables in them; such a line is read here, and no shell runs. A line that needs a shell is left to ``sh``.

Source of the rules: POSIX.1-2017, XCU 2.2 Quoting, 2.3 Token Recognition, 2.6 Word Expansions; dash is the reference.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

UNCLOSED = "a quote that is not closed"
"""The one ``syntax`` of a :class:`Line` that a shell refuses, too."""

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_NAMED = re.compile(r"\$\{?#?([A-Za-z_][A-Za-z0-9_]*)")
_PARAMETERS = "0123456789@*#?-$!"  # $1, $@, …: the shell's own parameters (XCU 2.5.2)
_OPERATOR = re.compile(r"[|&;<>()]{1,2}")  # no operator has more of these characters (XCU 2.10.2)
_PATTERNS = "*?["
_PLAIN = re.compile(r"""[^ \t\n|&;<>()*?\[#~'"\\$`]+""")  # characters that stand for themselves outside quotes
_PLAIN_IN_DOUBLE = re.compile(r'[^"\\$`]+')  # and within double quotes
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_RESERVED = frozenset(
    ("!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then", "until", "while")
)
_BUILTINS = frozenset(
    (
        "alias", "bg", "break", "cd", "command", "continue", "eval", "exec", "exit", "export", "fg", "getopts", "hash",
        "jobs", "local", "read", "readonly", "return", "set", "shift", "times", "trap", "type", "ulimit", "umask",
        "unalias", "unset", "wait", ".", ":",
    )
)  # fmt: skip
"""Built-in commands of the shell for which no program of the same name would do the same."""


@dataclass(frozen=True)
class Piece:
    """A part of a word: the literal ``text``, or the value of variable ``name``, split at blanks if ``split``."""

    text: str = ""
    name: str = ""
    split: bool = False


Word = tuple[Piece, ...]


@dataclass(frozen=True)
class Line:
    """A command line. ``words``: its words, which run without a shell.

    ``syntax``: the part of the line that needs a shell, in which case there are no words; else "".
    """

    text: str
    words: tuple[Word, ...] = ()
    syntax: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The variables that the line names; for a line that needs a shell, perhaps more than the shell would use."""
        if self.syntax:
            return tuple(dict.fromkeys(_NAMED.findall(self.text)))
        return tuple(dict.fromkeys(piece.name for word in self.words for piece in word if piece.name))


def read(args: Sequence[str]) -> Line:
    """Read the line that fserve makes of ``args``."""
    text = " ".join(args)
    reader = _Reader(text)
    try:
        words = tuple(reader.words())
        _check_first(words)
    except _Syntax as found:
        return Line(text, syntax=found.what)
    return Line(text, words)


def written(word: Word) -> str:
    """Write a word so that a shell reads it back, in the one form that this module uses: ``--api-key=$KEY``."""
    texts = [""]
    for piece in reversed(word):
        texts.append(_written(piece, texts[-1][:1]))
    return "".join(reversed(texts)) or "''"


def with_texts(word: str, change: Callable[[str], str]) -> str:
    """Return a word of :func:`written` with ``change`` applied to its literal text, not to its variables."""
    pieces = read([word]).words[0]
    return written(tuple(Piece(change(piece.text)) if not piece.name else piece for piece in pieces))


def variable(word: str) -> str:
    """Return the variable that a word of :func:`written` consists of, or "" if the word is anything else."""
    words = read([word]).words
    return words[0][0].name if len(words) == 1 and len(words[0]) == 1 else ""


def variables_in(word: str) -> tuple[str, ...]:
    """Return the names of the variables in a word of :func:`written`."""
    return read([word]).names


def divided(args: Iterable[str]) -> tuple[str, ...]:
    """Return those of ``args`` that are not one word each in a line that needs no shell.

    Such an argument becomes several words, or none, or has a quote that another argument closes.
    """
    found = []
    for arg in args:
        line = read([arg])
        if line.syntax == UNCLOSED or (not line.syntax and len(line.words) != 1):  # another argument closes it
            found.append(arg)
    return tuple(found)


def _written(piece: Piece, after: str) -> str:
    if not piece.name:
        return shlex.quote(piece.text)
    if not piece.split:
        return f'"${piece.name}"'
    return f"${{{piece.name}}}" if re.match(r"\w", after) else f"${piece.name}"


def _check_first(words: Sequence[Word]) -> None:
    first = words[0][0] if words else Piece()
    name = "".join(piece.text for piece in words[0]) if words else ""
    if first.name:
        return
    if _ASSIGNMENT.match(first.text):
        raise _Syntax(f"the assignment {name.partition('=')[0]}=")
    if name in _RESERVED | _BUILTINS:
        raise _Syntax(f"{name}, which is not a program")


class _Syntax(Exception):
    """A part of the line, named by ``what``, that only a shell can interpret."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class _Reader:
    """A reader that splits a line into words, in linear time: the line comes from a user and may be long."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._last = len(text.rstrip(" \t\n"))  # behind it are only blanks, of which the first may be escaped
        self._word: list[Piece] = []

    def words(self) -> list[Word]:
        found: list[Word] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in " \t" or (char == "\n" and self._at >= self._last):
                self._at += 1
                found += self._end()
            elif plain := _PLAIN.match(self._text, self._at):
                self._copy(plain)
            else:
                self._one(char)
        return found + self._end()

    def _one(self, char: str) -> None:
        if char == "\n":
            raise _Syntax("a new line")
        if operator := _OPERATOR.match(self._text, self._at):
            raise _Syntax(operator[0])
        if char in _PATTERNS:
            raise _Syntax(f"the pattern {char}")
        if char in "#~" and not self._word:
            raise _Syntax(f"{char} at the beginning of a word")
        if char == "'":
            self._add(self._until("'"))
        elif char == '"':
            self._double()
        elif char == "\\":
            self._escaped()
        elif char in "$`":
            self._dollar(split=True)
        else:  # a # or ~ within a word
            self._add(char)
            self._at += 1

    def _end(self) -> list[Word]:
        word, self._word = _joined(self._word), []
        return [word] if word else []

    def _add(self, text: str) -> None:
        self._word.append(Piece(text))

    def _copy(self, plain: re.Match[str]) -> None:
        self._add(plain[0])
        self._at = plain.end()

    def _until(self, quote: str) -> str:
        end = self._text.find(quote, self._at + 1)
        if end < 0:
            raise _Syntax(UNCLOSED)
        text, self._at = self._text[self._at + 1 : end], end + 1
        return text

    def _escaped(self) -> None:
        after = self._text[self._at + 1 : self._at + 2]
        self._at += 2
        if after != "\n":  # a backslash before a newline joins the two lines
            self._add(after or "\\")

    def _double(self) -> None:
        self._at += 1
        self._add("")  # an empty pair of quotes is a word, too
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return
            if char == "\\" and self._text[self._at + 1 : self._at + 2] in tuple('$`"\\\n'):
                self._escaped()
            elif char in "$`":
                self._dollar(split=False)
            elif plain := _PLAIN_IN_DOUBLE.match(self._text, self._at):
                self._copy(plain)
            else:  # a backslash that escapes nothing
                self._add(char)
                self._at += 1
        raise _Syntax(UNCLOSED)

    def _dollar(self, *, split: bool) -> None:
        after = self._text[self._at + 1 : self._at + 2]
        if self._text[self._at] == "`" or after == "(":
            arithmetic = self._text.startswith("$((", self._at)
            raise _Syntax("arithmetic" if arithmetic else "a command inside the line")
        if named := _VARIABLE.match(self._text, self._at):
            self._word.append(Piece(name=named[1] or named[2], split=split))
            self._at = named.end()
        elif after == "{":
            raise _Syntax("${…} with more than a name in it")
        elif after and after in _PARAMETERS:
            raise _Syntax(f"${after}")
        else:
            self._add("$")
            self._at += 1


def _joined(pieces: Iterable[Piece]) -> Word:
    """Join neighbouring texts of a word, and drop empty texts where another piece makes a word for certain.

    Beside a value that is split, an empty text is kept: it may be a word of its own, since the value may begin with a
    blank.
    """
    word: list[Piece] = []
    for named, group in groupby(pieces, key=lambda piece: bool(piece.name)):
        alike = list(group)
        word += alike if named else [Piece("".join(piece.text for piece in alike))]
    certain = any(piece.text or piece.name for piece in word) and not any(piece.split for piece in word)
    return tuple(piece for piece in word if piece.name or piece.text or not certain)
