"""Shows the progress of a deployment in the lines of Flyte's documentation, and the reason if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .aside import say

Watch = Callable[[], AsyncIterator[Any]]

_PREFIX = "DEPLOYMENT_STATUS_"
_SERVED = {"ACTIVE": "Started", "STARTED": "Started"}
"""States in which the app answers → the documentation's word for both."""
_OVER = {"FAILED", "STOPPED", "UNASSIGNED"}
_PAUSE_S, _MAX_FAILURES = 1.0, 30
"""Seconds between two attempts at a gateway that is being restarted, and how many may fail in a row."""

_held: list[str] | None = None
"""Lines about endpoints, held back until the command has printed its own; None: they are not held back."""


@contextmanager
def endpoints_last(*, answer: bool) -> Iterator[None]:
    """Hold the lines with endpoints back to the end of the block, and drop them if it raises.

    ``answer``: print them on standard output.
    """
    global _held  # noqa: PLW0603  one command line, one process
    held: list[str] = []
    _held = held
    try:
        yield
    finally:
        _held = None
    for line in held:
        say(line, answer=answer)


def deploying(name: str) -> None:
    """Print the first line, with the app's name."""
    say(f"✨ Deploying Application: {name}")


def console(url: str) -> None:
    """Print the address of the app's page."""
    say(f"🔎 Console URL: {url}")


def endpoint(url: str) -> None:
    """Print the last line, with the address at which the app answers, or hold it back."""
    line = f"🚀 Deployed Endpoint: {url}"
    if _held is None:
        say(line)
    else:
        _held.append(line)


def condition(app: Any) -> tuple[str, str]:
    """Return the last condition of an app (protobuf): its state without prefix ("" for none), and its message."""
    conditions = app.status.conditions
    if not conditions:
        return "", ""
    last = conditions[-1]
    name: str = type(app.status).DeploymentStatus.Name(last.deployment_status)
    return name.removeprefix(_PREFIX), last.message


async def until_served(app: Any, watch: Watch) -> Any:
    """Print each change of ``app`` (protobuf) until it answers, and return it as it is then.

    ``watch`` opens a stream of changes; a stream that ends or breaks is opened again. Raise RuntimeError with the
    reason if the deployment fails, and the stream's own error if it is not one that passes, or recurs too often.
    """
    shown, failures = _show(app, ("", "")), 0
    while not _is_served(app):
        try:
            async for change in _changes(watch):
                app, failures, shown = change, 0, _show(change, shown)
                if _is_served(app):
                    return app
            raise ConnectionError("the server ended the stream of the app's changes")  # noqa: TRY301  like a break
        except Exception as error:
            failures += 1
            if failures > _MAX_FAILURES or not _passing(error):
                raise
            await asyncio.sleep(_PAUSE_S)
    return app


def _is_served(app: Any) -> bool:
    """Report whether the app answers. Raise RuntimeError if it never will; the text begins as the SDK's own."""
    state, reason = condition(app)
    if state in _OVER:
        raise RuntimeError(f"App deployment for app {app.metadata.id.name} has failed! {reason}".rstrip())
    return state in _SERVED


async def _changes(watch: Watch) -> AsyncIterator[Any]:
    async for response in watch():
        if response.HasField("update_event"):
            yield response.update_event.updated_app


def _show(app: Any, shown: tuple[str, str]) -> tuple[str, str]:
    """Print the last condition of ``app`` unless it is the one last ``shown``; return the one that is shown now."""
    state, message = condition(app)
    if not state or (state, message) == shown:
        return shown
    say(f"[Status] {_SERVED.get(state, state.replace('_', ' ').capitalize())}: {message}")
    return state, message


def _passing(error: Exception) -> bool:
    """Report whether another attempt may succeed: the stream ended, or the gateway is being restarted."""
    code = getattr(getattr(error, "code", None), "name", "")
    return isinstance(error, ConnectionError) or code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELED"}
