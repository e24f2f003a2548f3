"""Makes ``flyte serve FILE`` and ``flyte deploy FILE`` use the only environment of a file, without its name.

Without a name the SDK shows a list and ends, with exit status 0. For a file with several environments it still does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .aside import around, step_aside


def install(group: Any) -> None:
    """Give ``serve`` or ``deploy`` (a group of files and folders) that default."""

    def make(old: Callable[..., Any]) -> Callable[..., Any]:
        def get_command(ctx: click.Context, cmd_name: str) -> Any:
            found = old(ctx, cmd_name)
            try:
                if hasattr(found, "filename"):
                    around(found, "parse_args", lambda parse: _with_default(found, parse))
                elif isinstance(found, click.Group):  # a folder, whose files are named by the next word
                    install(found)
            except Exception as error:  # noqa: BLE001
                step_aside(error)
            return found

        return get_command

    around(group, "get_command", make)


def _with_default(file: Any, old: Callable[..., Any]) -> Callable[..., Any]:
    def parse_args(ctx: click.Context, args: list[str]) -> Any:
        return old(ctx, list(args) or _only(file, ctx))

    return parse_args


def _only(file: Any, ctx: click.Context) -> list[str]:
    if ctx.resilient_parsing:  # the shell only asks for completions
        return []
    names = file.list_commands(ctx)  # imports the file; the user is to see its errors
    return [str(name) for name in names] if len(names) == 1 else []
