"""Expands the variables in an app's arguments here, so that no shell reads a value.

flyted has parsed the arguments as the shell of Flyte's fserve would (contract/shell.py), and passes each word on as a
template: ``%{NAME}`` is a value as it is, ``%[NAME]`` a value that is split at its blanks, ``%24`` the character 0x24.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from .refused import Refused
from .words import MARK

_BLANKS = re.compile(r"[ \t\n]+")  # the default value of IFS (POSIX.1-2017, XCU 2.6.5)


def expand(templates: Iterable[str], environ: Mapping[str, str], secrets: Collection[str]) -> list[str]:
    """Return the words, with the values of ``environ`` in place of the variables.

    The value of one of ``secrets`` is never split: a secret with a blank in it stays one argument. Raise ``Refused``
    if there is no such variable.
    """
    return [word for template in templates for word in _words(template, environ, secrets)]


def secrets_in(templates: Iterable[str], secrets: Collection[str]) -> list[str]:
    """Return those of ``secrets`` (names of variables) that the arguments use, in order and once each."""
    named = [found[2] or found[3] for template in templates for found in MARK.finditer(template)]
    return [name for name in dict.fromkeys(named) if name in secrets]


def _words(template: str, environ: Mapping[str, str], secrets: Collection[str]) -> list[str]:
    words: list[str] = []
    word: str | None = None if template else ""
    at = 0
    for found in MARK.finditer(template):
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
    """Append the complete fields of a value to ``words``; return the last field, to which the next text is added.

    Return ``None`` if the value ends with a blank. ``word``: the begun word before the value, ``None`` if there is
    none.
    """
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
