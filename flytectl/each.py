"""Does something to each of several names; a failure is reported, and does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flytectl.options import report
from flyted.contract.errors import FlytedError


def each(names: Iterable[str], do: Callable[[str], object], *, as_json: bool) -> int:
    """Call ``do`` for each name; return the exit status of the last failure, or 0."""
    status = 0
    for name in names:
        try:
            do(name)
        except FlytedError as error:
            status = report(error.code, error.message, error.hint, error.exit_status, as_json=as_json)
    return status
