"""Does something to each of several things; a failure is reported, and does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from flytectl.options import report
from flyted.contract.errors import FlytedError

One = TypeVar("One")


def each(those: Iterable[One], do: Callable[[One], object], *, as_json: bool) -> int:
    """Call ``do`` for each of those; return the exit status of the last failure, or 0."""
    status = 0
    for one in those:
        try:
            do(one)
        except FlytedError as error:
            status = report(error.code, error.message, error.hint, error.exit_status, as_json=as_json)
    return status
