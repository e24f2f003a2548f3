"""The entry points: what the SDK calls, by names that pyproject.toml gives it.

``flyte.plugins.types`` is called in every ``flyte.init*``; ``flyte.plugins.cli.hooks`` with a command of ``flyte``
before it runs. Names without a dot: for ``create.secret`` the SDK would run the command first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from . import (
    certificates,
    context,
    deployment,
    image_build,
    only_environment,
    platforms,
    progress,
    proxy,
    secret_value,
    target,
    tasks,
)
from .aside import around, harmless, step_aside

Command = TypeVar("Command")
Change = Callable[[Any], None]
Run = Callable[[click.Context], Any]


def _run(old: Run, ctx: click.Context) -> Any:
    return old(ctx)


@harmless
def on_init() -> None:
    """Deployments show their progress and have a ``url``. A script may connect later: it is asked then, to whom."""
    if target.command_line() is not None and not target.of_command():
        return
    deployment.give_url()
    deployment.show_progress()
    image_build.explain(deployment.is_ours)
    tasks.leave_out(deployment.is_ours)
    platforms.refuse(target.of_this_machine)
    context.honour(deployment.is_ours)
    if target.command_line() is None:
        certificates.explain_in_scripts(deployment.is_ours)


def create(group: Command) -> Command:
    """``flyte create``."""
    return _changed(group, secret_value.install)


def deploys(group: Command) -> Command:
    """``flyte serve`` and ``flyte deploy``."""
    return _changed(group, only_environment.install, around_run=_endpoints_last)


def proxies(group: Command) -> Command:
    """``flyte proxy``."""
    return _changed(group, proxy.install, around_run=proxy.explained)


def talks(command: Command) -> Command:
    """Every other command that talks to the server."""
    return _changed(command)


def _changed(command: Command, *changes: Change, around_run: Callable[[Run, click.Context], Any] = _run) -> Command:
    """The command that changes itself when it is run, if ``flyte`` then talks to a flyted.

    Not before: the SDK calls us while it finds out which command is meant, before it has read its options.
    """

    def make(old: Run) -> Run:
        def invoke(ctx: click.Context) -> Any:
            if not _ours():
                return old(ctx)
            for change in changes:
                harmless(change)(command)  # each on its own: one may fail
            return certificates.explained(lambda: _without_traceback(lambda: around_run(old, ctx)))

        return invoke

    harmless(around)(command, "invoke", make)
    return command


def _without_traceback(command: Callable[[], Any]) -> Any:
    """Runs a command. What the server refuses is said, also where the SDK would show its own frames."""
    try:
        return command()
    except Exception as error:
        if type(error).__name__ != "ConnectError":
            raise
        raise click.ClickException(str(getattr(error, "message", "") or error)) from error


def _ours() -> bool:
    try:
        return target.of_command()
    except Exception as error:  # noqa: BLE001  never break flyte
        step_aside(error)
        return False


def _endpoints_last(old: Run, ctx: click.Context) -> Any:
    if not ctx.params.get("local"):
        context.check_options(ctx)
    if ctx.params.get("follow"):
        return old(ctx)  # the log comes last, and goes on
    text = not str(getattr(ctx.obj, "output_format", "")).startswith("json")
    with progress.endpoints_last(answer=text):
        return old(ctx)
