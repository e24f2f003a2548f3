"""Reads a shell script of an image as far as it has to be known which commands run in any case. Pure.

Not a shell: what is inside an ``if``, a loop, a group or a function is kept as one block, and of a word only its text.
Source: POSIX.1-2017, XCU 2.3 Token Recognition, 2.9 Shell Commands, 2.10 Shell Grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_ENDS = {"if": "fi", "for": "done", "select": "done", "while": "done", "until": "done", "case": "esac", "{": "}",
         "(": ")"}  # fmt: skip
_BETWEEN = frozenset(("then", "else", "elif", "do"))
_OPERATOR = re.compile(r"&&|\|\||;;&|;;|;&|\|&|&>>?|>\||<<<|<<-?|[<>]&|<>|>>|[;&|()<>\n]")
_PLAIN = re.compile(r"[^\s;&|()<>'\"\\$`#]+|#")
_NAME = re.compile(r"[A-Za-z_][\w:.-]*")
_MOST_NESTED = 50
_JOIN = frozenset(("&&", "||", "|", "|&"))
_AFTER = frozenset((";", "\n", "", "&", "|", "|&", "&&", "||", ")", ";;", ";&", ";;&"))


class Unreadable(Exception):
    """It is no script of a shell, or one that this module cannot read."""


@dataclass(frozen=True)
class Command:
    """A simple command: its words without quotes, and the operators around it, "" at the ends of the script.

    What ``$`` stands for is not known: such a part is left as it is written.
    """

    words: tuple[str, ...]
    before: str
    after: str


@dataclass(frozen=True)
class Block:
    """Commands that run on a condition, more than once, or, with a ``function``'s name, when that is called."""

    inside: list[Command | Block] = field(default_factory=list)
    function: str = ""


def parse(text: str) -> list[Command | Block]:
    """Return what a script consists of, in order. Raises :class:`Unreadable`."""
    parser = _Parser(list(_Lexer(text).tokens()))
    found = parser.until("")
    if parser.left():
        raise Unreadable
    return found


def every(nodes: list[Command | Block]) -> Iterator[Command]:
    """Yield the commands of a script, also those inside blocks."""
    for node in nodes:
        if isinstance(node, Block):
            yield from every(node.inside)
        else:
            yield node


@dataclass(frozen=True)
class _Token:
    text: str
    operator: bool = False
    quoted: bool = False


class _Lexer:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._documents: list[tuple[str, bool]] = []  # ends of this line's, and whether tabs before them are left out
        self._depth = 0

    def tokens(self) -> Iterator[_Token]:
        while self._at < len(self._text):
            char = self._text[self._at]
            if char.isspace() and char != "\n":
                self._at += 1
            elif self._text.startswith("\\\n", self._at):
                self._at += 2
            elif char == "#":
                self._at = self._end_of_line()
            elif found := _OPERATOR.match(self._text, self._at):
                self._at = found.end()
                if found[0].startswith("<<") and found[0] != "<<<":
                    self._begin_document(tabs=found[0] == "<<-")
                    continue
                if found[0] == "\n":
                    self._skip_documents()
                yield _Token(found[0], operator=True)
            else:
                yield self._word()

    def _begin_document(self, *, tabs: bool) -> None:
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1
        self._documents.append((self._word().text, tabs))

    def _word(self) -> _Token:
        begin, parts = self._at, []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char.isspace() or char in ";&|()<>":
                break
            if char == "'":
                end = self._find("'", self._at + 1)
                parts.append(self._text[self._at + 1 : end])
                self._at = end + 1
            elif char == '"':
                parts.append(self._double())
            elif char == "\\":
                parts.append(self._text[self._at + 1 : self._at + 2].replace("\n", ""))
                self._at += 2
            elif char in "$`":
                parts.append(self._dollar())
            elif plain := _PLAIN.match(self._text, self._at):
                parts.append(plain[0])
                self._at = plain.end()
        return _Token("".join(parts), quoted=self._text[begin : begin + 1] in ("'", '"', "\\"))

    def _double(self) -> str:
        begin = self._at = self._at + 1
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return self._text[begin : self._at - 1]
            if char == "\\":
                self._at += 2
            elif char in "$`":
                self._dollar()
            else:
                self._at += 1
        raise Unreadable

    def _dollar(self) -> str:
        """Return a variable, or the text of a command that is put in its place."""
        self._depth += 1
        if self._depth > _MOST_NESTED:
            raise Unreadable
        found = self._expansion()
        self._depth -= 1
        return found

    def _expansion(self) -> str:
        begin = self._at
        if self._text[begin] == "`":
            self._at = self._find("`", begin + 1) + 1
            return self._text[begin : self._at]
        self._at += 1
        opened = self._text[self._at : self._at + 1]
        if opened in ("(", "{"):
            self._at += 1
            self._nested({"(": ")", "{": "}"}[opened])
        elif opened and not opened.isspace() and opened not in "\"'":
            self._at += 1
        return self._text[begin : self._at]

    def _nested(self, end: str) -> None:
        """Go behind the end of what is in parentheses or braces."""
        opened = 1
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == end or (char == "(" and end == ")"):
                self._at += 1
                opened += -1 if char == end else 1
                if not opened:
                    return
            elif char == "'" and end == ")":
                self._at = self._find("'", self._at + 1) + 1
            elif char == '"':
                self._double()
            elif char == "\\":
                self._at += 2
            elif char in "$`":
                self._dollar()
            else:
                self._at += 1
        raise Unreadable

    def _find(self, text: str, begin: int) -> int:
        found = self._text.find(text, begin)
        if found < 0:
            raise Unreadable
        return found

    def _end_of_line(self) -> int:
        found = self._text.find("\n", self._at)
        return len(self._text) if found < 0 else found

    def _skip_documents(self) -> None:
        for end, tabs in self._documents:
            while True:
                if self._at >= len(self._text):
                    raise Unreadable
                line_end = self._end_of_line()
                line, self._at = self._text[self._at : line_end], line_end + 1
                if (line.lstrip("\t") if tabs else line) == end:
                    break
        self._documents.clear()
        self._at = min(self._at, len(self._text))


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._at, self._nested = tokens, 0, 0
        self._before = ""  # the operator before the next command

    def left(self) -> bool:
        return self._at < len(self._tokens)

    def until(self, end: str) -> list[Command | Block]:
        """Return what comes before a word or operator, and go behind it."""
        self._nested += 1
        if self._nested > _MOST_NESTED:
            raise Unreadable
        found: list[Command | Block] = []
        self._before = ""
        while self.left():
            token = self._tokens[self._at]
            if token.text == end and not token.quoted and token.operator == (end == ")"):
                self._at += 1
                self._nested -= 1
                self._before = ""
                return found
            found += self._next(token)
        if end:
            raise Unreadable
        return found

    def _next(self, token: _Token) -> list[Command | Block]:
        """Return the command or block that begins here, or go behind a word or an operator that is neither."""
        if token.operator and token.text != "(":
            if token.text in _AFTER and not (token.text == "\n" and self._before in _JOIN):
                self._before = token.text
            self._at += 1
        elif not token.quoted and token.text in _BETWEEN:
            self._at += 1
        elif not token.quoted and token.text == "[[":
            self._skip("]]")
        elif not token.quoted and token.text in _ENDS:
            self._at += 1
            return [Block(self._inside(token.text))]
        elif name := self._function():
            return [self._body(name)]
        elif words := self._words():
            before, self._before = self._before, ""
            return [Command(words, before, self._operator())]
        return []

    def _inside(self, word: str) -> list[Command | Block]:
        if word != "case":
            return self.until(_ENDS[word])
        self._skip("in")
        return self.until("esac")

    def _skip(self, text: str) -> None:
        """Go behind the next word with this text."""
        while self.left() and self._tokens[self._at].text != text:
            self._at += 1
        self._at += 1

    def _function(self) -> str:
        """Go behind ``NAME ()`` or ``function NAME``, and return the name; "" if it is none."""
        ahead = [each.text for each in self._tokens[self._at : self._at + 4]]
        if ahead[1:3] == ["(", ")"] and _NAME.fullmatch(ahead[0]):
            self._at += 3
            return ahead[0]
        if ahead[0] == "function" and len(ahead) > 1:
            self._at += 4 if ahead[2:] == ["(", ")"] else 2
            return ahead[1]
        return ""

    def _body(self, name: str) -> Block:
        while self.left() and self._tokens[self._at].text == "\n":
            self._at += 1
        word = self._tokens[self._at].text if self.left() else ""
        if word not in _ENDS:
            raise Unreadable
        self._at += 1
        return Block(self._inside(word), name)

    def _words(self) -> tuple[str, ...]:
        """Return the words of a command, without redirections."""
        found: list[str] = []
        while self.left():
            token = self._tokens[self._at]
            if token.operator and (token.text in _AFTER or token.text == "("):
                break
            self._at += 1
            if not token.operator:
                found.append(token.text)
            elif self.left() and not self._tokens[self._at].operator:
                if found and found[-1].isdigit():
                    found.pop()
                self._at += 1
        return tuple(found)

    def _operator(self) -> str:
        return self._tokens[self._at].text if self.left() else ""
