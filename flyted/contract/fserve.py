"""Reads the command of Flyte's fserve: its own options, the program that it starts, its parameters. Pure.

Source: flyte/_bin/serve.py, flyte/app/_parameter.py.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from flyted.contract.errors import InvalidInput
from flyted.contract.shell import read, written

_PARAMETERS_LIMIT = 256 * 1024  # bytes of JSON, unpacked


def split(command: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command into fserve's part, ``--`` included, and the program with its arguments as the file has them.

    fserve's part is empty for a command that is not fserve's, and both for an empty one. The program's part is empty
    for a server function.
    """
    if list(command[:1]) != ["fserve"] or "--" not in command:
        return [], list(command)
    at = list(command).index("--") + 1
    return list(command[:at]), list(command[at:])


def options(command: Sequence[str]) -> list[str]:
    """Return fserve and its options: the words before ``--``, or all. Return an empty list for another program.

    Another program, or the one that fserve starts, may have options of the same names.
    """
    return list(takewhile(lambda word: word != "--", command)) if list(command[:1]) == ["fserve"] else []


def program(command: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split like :func:`split`, with the program's words as :mod:`flyted.contract.shell` writes them.

    The program's part is empty if the line needs a shell, since which programs a shell starts is not known here. No
    shell reads a command that is not fserve's, so the words of such a command stay as they are.
    """
    head, words = split(command)
    return (head, [written(word) for word in read(words).words]) if head else (head, words)


def parameters(command: Sequence[str]) -> list[dict[str, Any]]:
    """Read fserve's ``--parameters``: base64(gzip(json)) of a ``SerializableParameterCollection``.

    Return an empty list for a command without that option. Raise :class:`InvalidInput` if the text is not such a
    collection, or if its JSON is longer than 256 KiB.
    """
    own = options(command)
    if "--parameters" not in own[:-1]:
        return []
    text = own[own.index("--parameters") + 1]
    try:
        inflate = zlib.decompressobj(wbits=31)
        data = inflate.decompress(base64.b64decode(text, validate=True), _PARAMETERS_LIMIT)
        if inflate.unconsumed_tail:
            raise InvalidInput(
                f"the app's parameters are longer than {_PARAMETERS_LIMIT >> 10} KiB together",
                hint="give a long text as a file: value=flyte.io.File(path=…)",
            )
        found = json.loads(data)["parameters"]
        if not all(isinstance(p, dict) for p in found):
            raise InvalidInput("the app's parameters cannot be read")
    except (ValueError, KeyError, TypeError, zlib.error, binascii.Error) as error:
        raise InvalidInput("the app's parameters cannot be read") from error
    return list(found)
