"""Asks for confirmation before data is deleted for good; without a terminal ``--yes`` is required."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from flytectl.options import say

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

DECLINED = 1
"""The exit status if the answer was no."""


def yes_option(function: Decorated) -> Decorated:
    """Add ``--yes``: delete without asking."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask. Required when stdin is not a terminal.")(
        function
    )


def scope_words(project: str, domain: str, *unless: str) -> list[str]:
    """Return the options that name a scope, without those whose value is in ``unless``."""
    pairs = (("--project", project), ("--domain", domain))
    return [word for option, value in pairs if value and value not in unless for word in (option, value)]


def can_ask() -> bool:
    """Report whether standard input and standard error are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def may_delete(lost: Sequence[str], question: str, command: str) -> bool:
    """Show what will be lost, a line each, and ask; return ``False`` after a no, with a message.

    Raise :class:`InvalidInput` without a terminal, with ``command``, what to type then, as its hint. click raises
    ``Abort`` at Ctrl-C.
    """
    return confirmed(lost, question, "deletion", command, "nothing was deleted")


def confirmed(told: Sequence[str], question: str, what: str, command: str, unchanged: str) -> bool:
    """Show the lines ``told``, and ask; after a no, say ``unchanged`` and return ``False``.

    Raise :class:`InvalidInput` without a terminal: ``what`` needs confirmation; its hint is ``command``, what to type
    then. click raises ``Abort`` at Ctrl-C.
    """
    if not can_ask():
        from flyted.contract.errors import InvalidInput  # noqa: PLC0415  only where it is raised

        raise InvalidInput(
            f"{what} needs confirmation, and standard input is not a terminal: {unchanged}", hint=command
        )
    for line in told:
        say(line)
    if click.confirm(question, default=False, err=True):
        return True
    say(unchanged)
    return False
