"""Keeps secrets out of the arguments of every process that the app starts: all users of the machine can read those.

Python tells an audit hook of each start of a program (PEP 578); an exception of the hook prevents it. So a console
script that passes its own arguments on to another program is caught as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from .refused import Refused

_ARGUMENTS = {"os.exec": 1, "os.posix_spawn": 1, "os.spawn": 2, "subprocess.Popen": 1, "os.system": 0}
SHORTEST = 6  # a shorter value is found by chance
REMEDY = "let it read the variable or a file instead, or serve with --allow-secret-in-argv"


def install(secrets: Mapping[str, str]) -> None:
    """From now on a program with a value of ``secrets`` (name → value) in its arguments is not started."""
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
            if value in text:
                program = os.path.basename(os.fsencode(words[0]).split(b" ")[0]).decode("ascii", "replace")
                raise Refused(f"program {program!a} would show secret {name} to everybody in its arguments; {REMEDY}")
