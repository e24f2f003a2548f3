"""The entry points: functions that the SDK calls, under the names that pyproject.toml gives them.

The SDK calls those of ``flyte.plugins.types`` in ``flyte.init*``, once in a process; those of
``flyte.plugins.cli.hooks`` with a command of ``flyte``, before that runs. The latter have names without a dot: for
``create.secret`` the SDK would run the command first.
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
    """Install what works in scripts and commands alike: progress, output of builds, ``Deployment.url``, refusals.

    A command that talks to another server is left alone. A script may connect later, so each part finds out at its own
    time whether the SDK talks to a flyted.
    """
    if target.command_line() is not None and not target.of_command():
        return
    deployment.give_url()
    deployment.show_progress()
    image_build.show(deployment.is_ours)
    tasks.leave_out(deployment.is_ours)
    platforms.refuse(target.of_this_machine)
    context.honour(deployment.is_ours)
    if target.command_line() is None:
        certificates.explain_in_scripts(deployment.is_ours)


def create(group: Command) -> Command:
    """Change ``flyte create``: the value of a secret may be the second word."""
    return _changed(group, secret_value.install)


def deploys(group: Command) -> Command:
    """Change ``flyte serve`` and ``flyte deploy``: a file's only environment needs no name, endpoints come last."""
    return _changed(group, only_environment.install, around_run=_endpoints_last)


def proxies(group: Command) -> Command:
    """Change ``flyte proxy``: it knows the command that prints a token, and names a missing package."""
    return _changed(group, proxy.install, around_run=proxy.explained)


def talks(command: Command) -> Command:
    """Change every other command that talks to the server: its errors say what is wrong."""
    return _changed(command)


def _changed(command: Command, *changes: Change, around_run: Callable[[Run, click.Context], Any] = _run) -> Command:
    """Apply ``changes`` to a command when it runs, if ``flyte`` then talks to a flyted; return the command.

    The changes cannot be made earlier: the SDK calls the hook while it finds out which command is meant, before it has
    read the command's options.
    """

    def make(old: Run) -> Run:
        def invoke(ctx: click.Context) -> Any:
            if not _ours():
                return old(ctx)
            for change in changes:
                harmless(change)(command)  # each is guarded by itself: one may fail
            return certificates.explained(lambda: _without_traceback(lambda: around_run(old, ctx)))

        return invoke

    harmless(around)(command, "invoke", make)
    return command


def _without_traceback(command: Callable[[], Any]) -> Any:
    """Run a command. Raise a click.ClickException for a refusal by the server, where the SDK may show a traceback."""
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
        return old(ctx)  # the log comes last, and has no end
    text = not str(getattr(ctx.obj, "output_format", "")).startswith("json")
    with progress.endpoints_last(answer=text):
        return old(ctx)
