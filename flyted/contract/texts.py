"""Checks texts from outside that are no names: arguments, the values of variables, and what is shown to people."""

from __future__ import annotations

import re

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable

MAX_TEXT = 8192
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def plain_text(value: object, what: str, *, limit: int = MAX_TEXT) -> str:
    """Return ``value`` if it is a string of at most ``limit`` characters, none of them a control character.

    Raise :class:`InvalidInput` for any other value: a newline in a D-Bus string runs code as root on Debian 12.
    ``what`` names the value in the message.
    """
    if not isinstance(value, str) or len(value) > limit:
        raise InvalidInput(f"{what} must be text of at most {limit} characters")
    if _CONTROL.search(value):
        raise InvalidInput(f"{what} {printable(value)} contains a control character", hint="remove it")
    return value


def text_for_a_program(value: object, what: str) -> None:
    """Check an argument or a variable's value, which may be any text that execve(2) takes, since no unit contains it.

    Raise :class:`InvalidInput` for a text that is too long, is not valid Unicode or contains a NUL.
    """
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise InvalidInput(f"{what} must be text of at most {MAX_TEXT} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} {printable(value)} is not valid Unicode") from error
    if "\0" in value:
        raise InvalidInput(f"{what} {printable(value)} contains a NUL character", hint="remove it")
