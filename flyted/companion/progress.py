"""What one sees while an app is deployed: the lines of Flyte's documentation, and the reason when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .aside import say

Watch = Callable[[], AsyncIterator[Any]]

_PREFIX = "DEPLOYMENT_STATUS_"
_SERVED = {"ACTIVE": "Started", "STARTED": "Started"}
"""Both mean that the app answers; the word is the documentation's."""
_OVER = {"FAILED", "STOPPED", "UNASSIGNED"}
_PAUSE_S, _PATIENCE = 1.0, 30
"""A gateway that is restarted is asked again: so many times in a row, with pauses."""

_held: list[str] | None = None
"""Lines about endpoints that wait until the command has said its own."""


@contextmanager
def endpoints_last(*, answer: bool) -> Iterator[None]:
    """Holds the lines with endpoints back to the end, and not at all if there was an error."""
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
    """The first line."""
    say(f"✨ Deploying Application: {name}")


def console(url: str) -> None:
    """Where the app's page is."""
    say(f"🔎 Console URL: {url}")


def endpoint(url: str) -> None:
    """Where the app answers: the last line."""
    line = f"🚀 Deployed Endpoint: {url}"
    if _held is None:
        say(line)
    else:
        _held.append(line)


def condition(app: Any) -> tuple[str, str]:
    """The last condition of an app (protobuf): its state without prefix ("" for none), and its message."""
    conditions = app.status.conditions
    if not conditions:
        return "", ""
    last = conditions[-1]
    name: str = type(app.status).DeploymentStatus.Name(last.deployment_status)
    return name.removeprefix(_PREFIX), last.message


async def until_served(app: Any, watch: Watch) -> Any:
    """Shows each change of ``app`` (protobuf) and returns it as it is when it answers.

    ``watch`` opens a stream of changes; one that ends or breaks is opened again. Raises RuntimeError with the reason
    when the deployment fails, the error of the stream when it goes on breaking.
    """
    shown, failures = _show(app, ("", "")), 0
    while not _is_served(app):
        try:
            async for change in _changes(watch):
                app, failures, shown = change, 0, _show(change, shown)
                if _is_served(app):
                    return app
            raise ConnectionError("the server ended the stream of the app's changes")  # noqa: TRY301  as if it broke
        except Exception as error:
            failures += 1
            if failures > _PATIENCE or not _passing(error):
                raise
            await asyncio.sleep(_PAUSE_S)
    return app


def _is_served(app: Any) -> bool:
    """Whether it answers. Raises RuntimeError when it will not; it begins as the SDK's own."""
    state, reason = condition(app)
    if state in _OVER:
        raise RuntimeError(f"App deployment for app {app.metadata.id.name} has failed! {reason}".rstrip())
    return state in _SERVED


async def _changes(watch: Watch) -> AsyncIterator[Any]:
    async for response in watch():
        if response.HasField("update_event"):
            yield response.update_event.updated_app


def _show(app: Any, shown: tuple[str, str]) -> tuple[str, str]:
    """Prints the last condition of ``app`` unless it is the one that was ``shown``; returns what is shown now."""
    state, message = condition(app)
    if not state or (state, message) == shown:
        return shown
    say(f"[Status] {_SERVED.get(state, state.replace('_', ' ').capitalize())}: {message}")
    return state, message


def _passing(error: Exception) -> bool:
    """Whether it may work in a moment: the stream ended, or the gateway is being restarted."""
    code = getattr(getattr(error, "code", None), "name", "")
    return isinstance(error, ConnectionError) or code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELED"}
