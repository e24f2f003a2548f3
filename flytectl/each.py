"""Reports what a command did to each of several things, also if it failed for one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from flytectl.options import out, report
from flyted.contract.errors import FlytedError

One = TypeVar("One")


def each(those: Iterable[One], do: Callable[[One], Iterable[Any]], name: str, *, as_json: bool) -> int:
    """Call ``do`` for each of those; return the exit status of the last failure, or 0.

    A failure is reported, and does not stop the others. ``do`` returns what it did, for :func:`listed`.
    """
    status = 0
    with listed(name, as_json=as_json) as done:
        for one in those:
            try:
                done.extend(do(one))
            except FlytedError as error:
                status = report(error.code, error.message, error.hint, error.exit_status, as_json=as_json)
    return status


@contextlib.contextmanager
def listed(name: str, *, as_json: bool) -> Iterator[list[Any]]:
    """Yield a list for what the block does; if ``as_json``, print ``{name: list}`` at its end, also after an error."""
    done: list[Any] = []
    try:
        yield done
    finally:
        if as_json:
            from flytectl.render import to_json  # noqa: PLC0415  only for JSON

            out(to_json({name: done}))
