"""Reads a secret's value, of 1 byte to 512 KiB, from an argument, a file, standard input or a prompt.

Newlines: an argument, a file and a typed line are taken as they are. From standard input one newline at the end is
dropped, because ``echo`` and here-documents add it; ``--keep-newline`` keeps it. No error of this file contains a
value.
"""

from __future__ import annotations

import os
import sys

import click

from flytectl.options import say
from flyted.contract.errors import InvalidInput, NotFound, PermissionRefused

LIMIT = 512 * 1024  # flyted.contract.wire.BULK_LIMIT, without importing msgpack; a test compares them


def read_value(value: str | None, from_file: str | None, *, keep_newline: bool) -> bytes:
    """Return the value as the user gave it.

    Raise :class:`InvalidInput` if it is empty, too long, or not given and there is no terminal to ask on;
    :class:`NotFound`, :class:`PermissionRefused` or :class:`InvalidInput` if the file cannot be read.
    """
    if from_file is not None:
        data = _from_file(from_file)
    elif value == "-":
        data = sys.stdin.buffer.read(LIMIT + 3)
        data = data if keep_newline else _without_newline(data)
    elif value is not None:
        say("note: a value on the command line stays in your shell's history and is visible in 'ps' while this runs;")
        say("      omit it to be prompted, or use --from-file FILE, or '-' for standard input")
        data = os.fsencode(value)
    else:
        data = _asked()
    return _checked(data)


def _checked(data: bytes) -> bytes:
    if not data:
        raise InvalidInput("the value is empty: an app could not tell it from a missing secret", hint="give a value")
    if len(data) > LIMIT:
        raise InvalidInput(
            f"the value is longer than {LIMIT // 1024} KiB", hint="encrypt the data, and store only the key"
        )
    return data


def _without_newline(data: bytes) -> bytes:
    if data.endswith(b"\r\n"):
        return data[:-2]
    return data[:-1] if data.endswith(b"\n") else data


def read_file(name: str, option: str) -> bytes:
    """Return the content of a file that an option names, as much of it as may be the value of a secret.

    Raise :class:`NotFound`, :class:`PermissionRefused` or :class:`InvalidInput` if it cannot be read.
    """
    try:
        with open(name, "rb") as file:  # noqa: PTH123  pathlib costs milliseconds here
            return file.read(LIMIT + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {name}", hint=f"{option} takes a path") from error
    except PermissionError as error:
        raise PermissionRefused(f"no permission to read {name}", hint=f"ls -l {name}") from error
    except OSError as error:
        raise InvalidInput(f"cannot read {name}: {error.strerror}") from error


def _from_file(name: str) -> bytes:
    data = read_file(name, "--from-file")
    if data.count(b"\n") == 1 and data.endswith(b"\n"):
        say("note: the file's only line ends with a newline, which is now part of the value")
    return data


def _asked() -> bytes:
    if not sys.stdin.isatty():
        raise InvalidInput(
            "no value given, and standard input is not a terminal",
            hint="give VALUE or --from-file FILE, or give '-' and the value on standard input",
        )
    typed: str = click.prompt(
        "Value", hide_input=True, confirmation_prompt="Repeat value", err=True, default="", show_default=False
    )
    return typed.encode("utf-8", "surrogateescape")
