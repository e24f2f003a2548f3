"""Cuts lists into pages. A page token is the index at which the next page begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from flyted.contract.errors import InvalidInput

T = TypeVar("T")


def page(found: Sequence[T], limit: int, token: str, most: int) -> tuple[Sequence[T], str]:
    """Return one page of a list and the token of the next page, "" after the last.

    A page has ``limit`` items (0: the most), but never more than ``most``. Raise :class:`InvalidInput` for a token of
    another form.
    """
    if not (token == "" or (token.isascii() and token.isdigit() and len(token) < 10)):
        raise InvalidInput("this page token was not issued by this machine")
    begin = int(token or 0)
    end = begin + (min(limit, most) if limit > 0 else most)
    return found[begin:end], str(end) if end < len(found) else ""
