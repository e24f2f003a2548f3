"""The values of variables in an app's arguments, put in here: no shell reads a value.

flyted has read the arguments as the shell of Flyte's fserve would (contract/shell.py), and hands each word on as a
template: ``%{NAME}`` is a value as it is, ``%[NAME]`` a value that is split at its blanks, ``%24`` the character 0x24.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from .refused import Refused

_PIECE = re.compile(r"%(?:([0-9A-F]{2})|\{([A-Za-z_][A-Za-z0-9_]*)?\}|\[([A-Za-z_][A-Za-z0-9_]*)\])")
_BLANKS = re.compile(r"[ \t\n]+")  # IFS, as a shell begins with (POSIX.1-2017, XCU 2.6.5)


def unquoted(word: str) -> str:
    """A word without variables; the inverse of flyted's ``plan/command.py:quote``."""
    return _PIECE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[0], word)


def expand(templates: Iterable[str], environ: Mapping[str, str], secrets: Collection[str]) -> list[str]:
    """The words. The value of a secret is never split: one with a blank in it is no two arguments.

    Raises ``Refused`` if there is no such variable.
    """
    return [word for template in templates for word in _words(template, environ, secrets)]


def secrets_in(templates: Iterable[str], secrets: Collection[str]) -> list[str]:
    """The secrets' variables that the arguments name."""
    named = [found[2] or found[3] for template in templates for found in _PIECE.finditer(template)]
    return [name for name in dict.fromkeys(named) if name in secrets]


def _words(template: str, environ: Mapping[str, str], secrets: Collection[str]) -> list[str]:
    words: list[str] = []
    word: str | None = None if template else ""
    at = 0
    for found in _PIECE.finditer(template):
        if found.start() > at:
            word = (word or "") + template[at : found.start()]
        at = found.end()
        if found[1]:
            word = (word or "") + chr(int(found[1], 16))
        elif found[3] and found[3] not in secrets:
            word = _split(_value(found[3], environ), word, words)
        else:
            word = (word or "") + (_value(found[2] or found[3], environ) if found[2] or found[3] else "")
    if at < len(template):
        word = (word or "") + template[at:]
    return words if word is None else [*words, word]


def _split(value: str, word: str | None, words: list[str]) -> str | None:
    """Adds a value's fields; returns the last one, which what follows belongs to, ``None`` after a blank."""
    fields = _BLANKS.split(value)
    for number, field in enumerate(fields):
        if number:
            if word is not None:
                words.append(word)
            word = None
        if field:
            word = (word or "") + field
    return word


def _value(name: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name)
    if value is None:
        raise Refused(f"argument ${name}: the app has no secret or variable named {name!a}")
    return value
