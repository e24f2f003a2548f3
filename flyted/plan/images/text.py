"""Reads words with variables, as in a Dockerfile, and replaces the variables. Pure.

A word is read once, when the recipe is made, and expanded when the variables of the base image are known. Source: the
reference of Dockerfile, "Environment replacement"; buildkit's frontend/dockerfile/shell/lex.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import printable, shortened
from flyted.contract.texts import MAX_TEXT

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]|[@*#?!$-]")
_DEEPEST = 8


@dataclass(frozen=True)
class Variable:
    """A variable in a word. ``operator``: "" or one of ``- + ? :- :+ :?``, which decide when ``word`` counts."""

    name: str
    operator: str = ""
    word: Text = ()


Text = tuple[str | Variable, ...]
"""Literal parts and variables, in order."""


def is_text(value: object) -> bool:
    """Report whether a value is a text that a program can be given: Unicode without NUL.

    JSON may also have halves of characters in it, which no file can.
    """
    try:
        return isinstance(value, str) and b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def literal(value: str) -> Text:
    """Return a text without variables."""
    return (value,) if value else ()


def word(value: str, where: str, escape: str = "\\") -> Text:
    """Read one word of a Dockerfile: quotes go, variables stay to be replaced.

    Raises :class:`InvalidInput` for a quote or brace that is not closed, :class:`Unsupported` for an operator that
    changes a value by a pattern.
    """
    return _Reader(value, where, escape).read()


def with_variables(value: str) -> Text:
    r"""Read a value of an ImageSpec: ``$NAME`` and ``${NAME}`` are variables, ``\$`` is a dollar sign, quotes stay."""
    parts: list[str | Variable] = []
    end = 0
    for found in re.finditer(r"\\\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Za-z_][A-Za-z0-9_]*)", value):
        name = found[1] or found[2]
        parts += [value[end : found.start()], Variable(name) if name else "$"]
        end = found.end()
    return tuple(part for part in (*parts, value[end:]) if part)


def expand(text: Text, values: Mapping[str, str], where: str) -> str:
    """Return the text with its variables replaced; one without a value stands for nothing.

    Raises :class:`InvalidInput` for a result that is too long, and for ``${NAME:?why}`` without a value.
    """
    done = ""
    for part in text:  # looked at each time: it may double with each variable
        done += part if isinstance(part, str) else _value(part, values, where)
        if len(done) > MAX_TEXT:
            raise InvalidInput(
                f"{where}: the text is too long with its variables replaced",
                hint=f"the limit is {MAX_TEXT} characters",
            )
    return done


def _value(variable: Variable, values: Mapping[str, str], where: str) -> str:
    value = values.get(variable.name)
    there = value if variable.operator.startswith(":") else value is not None
    match variable.operator.removeprefix(":"):
        case "-":
            return value or "" if there else expand(variable.word, values, where)
        case "+":
            return expand(variable.word, values, where) if there else ""
        case "?" if not there:
            why = expand(variable.word, values, where) or "it has no value"
            name = shortened(variable.name)
            raise InvalidInput(f"{where}: variable {name}: {printable(why)}", hint=f"ARG {name}=value")
        case _:
            return value or ""


class _Reader:
    def __init__(self, value: str, where: str, escape: str, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise InvalidInput(f"{where}: variables are nested too deep")
        self.value, self.where, self.escape, self.depth = value, where, escape, depth
        self.at = 0
        self.parts: list[str | Variable] = []
        self.literal: list[str] = []  # what is read since the last variable

    def read(self, closing: str = "") -> Text:
        """Read up to ``closing``, which is then behind us, or to the end."""
        while self.at < len(self.value):
            char = self.value[self.at]
            if closing and char == closing:
                break
            if char == "'":
                self._add(self._until("'"))
            elif char == '"':
                self._quoted()
            elif char == "$":
                self._variable()
            elif char == self.escape:
                self._add(self.value[self.at + 1 : self.at + 2])
                self.at += 2
            else:
                self._add(char)
                self.at += 1
        if closing and self.at >= len(self.value):
            raise self._open("${")
        self._end_literal()
        return tuple(self.parts)

    def _quoted(self) -> None:
        self.at += 1
        while self.value[self.at : self.at + 1] != '"':
            if self.at >= len(self.value):
                raise self._open('"')
            char, after = self.value[self.at], self.value[self.at + 1 : self.at + 2]
            if char == "$":
                self._variable()
            elif char == self.escape and after and after in f'"${self.escape}':
                self._add(after)
                self.at += 2
            else:
                self._add(char)
                self.at += 1
        self.at += 1

    def _until(self, quote: str) -> str:
        end = self.value.find(quote, self.at + 1)
        if end < 0:
            raise self._open(quote)
        inside = self.value[self.at + 1 : end]
        self.at = end + 1
        return inside

    def _variable(self) -> None:
        braced = self.value.startswith("{", self.at + 1)
        found = _NAME.match(self.value, self.at + 1 + braced)
        if found is None:
            if braced:
                raise InvalidInput(
                    f"{self.where}: {printable(self.value[self.at :][:40])} is not a variable", hint="${NAME}"
                )
            self._add("$")
            self.at += 1
            return
        self.at = found.end()
        self._end_literal()
        self.parts.append(self._braced(found[0]) if braced else Variable(found[0]))

    def _braced(self, name: str) -> Variable:
        rest = self.value[self.at : self.at + 2]
        if rest.startswith("}"):
            self.at += 1
            return Variable(name)
        operator = rest if rest.startswith(":") else rest[:1]
        if self.value.find("}", self.at) < 0:
            raise self._open("${")
        if operator not in {"-", "+", "?", ":-", ":+", ":?"}:
            raise Unsupported(
                f"{self.where}: {printable('${' + name + operator)}… is not supported",
                hint="use ${{{0}}}, ${{{0}:-value}} or ${{{0}:+value}}".format(shortened(name)),
            )
        inner = _Reader(self.value, self.where, self.escape, self.depth + 1)
        inner.at = self.at + len(operator)
        alternative = inner.read("}")
        self.at = inner.at + 1
        return Variable(name, operator, alternative)

    def _add(self, part: str) -> None:
        self.literal.append(part)

    def _end_literal(self) -> None:
        if joined := "".join(self.literal):
            self.parts.append(joined)
        self.literal = []

    def _open(self, what: str) -> InvalidInput:
        return InvalidInput(f"{self.where}: {what} is not closed in {printable(self.value[:80])}")
