"""Honours options of ``flyte.with_servecontext(…)`` and ``flyte serve`` that the SDK accepts and does not send.

The SDK merges ``env_vars``, ``log_level`` and the cluster into its own copy of the app after the app was created
(flyte/_serve.py: "a temporary solution"), and says that they are set. The companion sends variables and log levels
with the app, as variables, says that a cluster has no effect, and refuses the other options by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import click

from .aside import around, harmless
from .imports import after_import

_asked: ContextVar[tuple[Any, dict[str, str]] | None] = ContextVar("_asked", default=None)
"""The environment that is being served, and the variables for it."""
OPTIONS = {
    "service_account": "--service-account names a Kubernetes account, and flyted uses no Kubernetes",
    "name": "--name is not sent by flyte: name= of the environment in the file names the app",
    "image": "--image is not supported: name the image in the file, or in image.image_refs of Flyte's config file",
}
"""Options of ``flyte serve`` and ``flyte deploy`` that would have no effect, and why."""


def honour(ours: Callable[[], bool]) -> None:
    """Make ``flyte.serve`` honour or refuse its options from now on, if ``ours()`` is true at the time of the call."""

    @harmless
    def install(module: Any) -> None:
        around(module._Serve, "_serve_remote", lambda old: _serving(old, ours))  # noqa: SLF001

    after_import("flyte._serve", install)


def _serving(old: Callable[..., Any], ours: Callable[[], bool]) -> Callable[..., Any]:
    async def serve_remote(self: Any, app_env: Any, *args: Any, **kwargs: Any) -> Any:
        if not ours():
            return await old(self, app_env, *args, **kwargs)
        if refusal := _refusal(self):
            raise ValueError(f"app '{app_env.name}': {refusal}")
        for note in _notes(self):
            click.echo(f"note: {note}", err=True)
        before = _asked.set((app_env, _variables(self)))
        try:
            return await old(self, app_env, *args, **kwargs)
        finally:
            _asked.reset(before)

    return serve_remote


def _refusal(context: Any) -> str:
    if getattr(context, "_dry_run", False):
        return "flyte.serve ignores dry_run=True and sends the app: use flyte.deploy(env, dry_run=True)"
    return ""


def _notes(context: Any) -> Iterator[str]:
    for field in ("cluster", "cluster_pool"):
        if getattr(context, f"_{field}", None) not in (None, "", "default"):
            yield f"{field}={getattr(context, f'_{field}')!r} has no effect: flyted runs on one machine"


def _variables(context: Any) -> dict[str, str]:
    """Return the caller's variables, and those of the log that were asked for: for the rest the app has defaults."""
    found = {str(name): str(value) for name, value in (getattr(context, "_env_vars", None) or {}).items()}
    level, user = getattr(context, "_log_level", None), getattr(context, "_user_log_level", None)
    log = {
        "LOG_LEVEL": "" if level is None else str(level),
        "LOG_FORMAT": "" if getattr(context, "_log_format", "console") == "console" else str(context._log_format),  # noqa: SLF001
        "USER_LOG_LEVEL": "" if user is None else str(user),
    }
    return {**{name: value for name, value in log.items() if value}, **found}


@contextmanager
def with_variables(app: Any) -> Iterator[None]:
    """Give ``app`` the variables that it is to be served with, while it is translated and sent."""
    asked = _asked.get()
    if asked is None or asked[0] is not app or not asked[1]:
        yield
        return
    before = app.env_vars
    app.env_vars = {**(before or {}), **asked[1]}
    try:
        yield
    finally:
        app.env_vars = before


def check_options(ctx: click.Context) -> None:
    """Raise ``click.UsageError`` for an option of the command that would have no effect."""
    for name, why in OPTIONS.items():
        if ctx.params.get(name):
            raise click.UsageError(why, ctx)
