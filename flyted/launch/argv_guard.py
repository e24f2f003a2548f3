"""Keeps secrets out of the arguments of every process that the app starts: all users of the machine can read those.

Python calls an audit hook before each start of a program (PEP 578), and an exception of the hook prevents the start.
So a console script that passes its own arguments on to another program is caught as well.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from typing import Any

from .refused import Refused

_ARGUMENTS = {"os.exec": 1, "os.posix_spawn": 1, "os.spawn": 2, "subprocess.Popen": 1, "os.system": 0}
SHORTEST = 6  # a shorter value would be found by chance
_BITS = 60  # a value that is easier to guess may be a word in other arguments as well: a user's name, say
_ALPHABETS = ((b"abcdefghijklmnopqrstuvwxyz", 26), (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", 26), (b"0123456789", 10))
REMEDY = "let it read the variable or a file instead, or serve with --allow-secret-in-argv"


def install(secrets: Mapping[str, str]) -> None:
    """From now on prevent the start of a program with a value of ``secrets`` (name → value) in its arguments.

    The call that would start it raises ``Refused``. Values shorter than ``SHORTEST`` are not looked for.
    """
    watched = {name: os.fsencode(value) for name, value in secrets.items() if len(value) >= SHORTEST}
    if not watched:
        return

    def hook(event: str, values: tuple[Any, ...]) -> None:
        place = _ARGUMENTS.get(event)
        if place is not None:
            _check(values[place], watched)

    sys.addaudithook(hook)


def _check(arguments: Any, watched: Mapping[str, bytes]) -> None:
    words = [arguments] if isinstance(arguments, (str, bytes, os.PathLike)) else list(arguments or ())
    for word in words:
        text = os.fsencode(word)
        for name, value in watched.items():
            if _shows(text, value):
                program = os.path.basename(os.fsencode(words[0]).split(b" ")[0]).decode("ascii", "replace")
                raise Refused(f"program {program!a} would show secret {name} to all users in its arguments; {REMEDY}")


def _shows(text: bytes, value: bytes) -> bool:
    """Report whether an argument contains a secret.

    A value that is too random to occur by chance counts anywhere in the argument. A value like ``postgres`` counts
    only as a whole word, or after an equals sign: ``http://postgres:5432`` contains it for another reason.
    """
    if value not in text:
        return False
    if _bits(value) >= _BITS:
        return True
    words = [text, *text.split()]
    return any(word == value or word.endswith(b"=" + value) for word in words)


def _bits(value: bytes) -> float:
    """Return an upper bound of a value's entropy in bits: its length times the bits of one character."""
    size = sum(count for letters, count in _ALPHABETS if any(byte in letters for byte in value))
    others = {byte for byte in value if not any(byte in letters for letters, _ in _ALPHABETS)}
    return len(value) * math.log2(max(size + 8 * len(others), 2))
