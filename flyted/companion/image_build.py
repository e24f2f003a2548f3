"""Shows what an image build prints while the SDK waits for it: the SDK itself names only the build's page.

For a Dockerfile, which the SDK sends to no remote builder, it says what does build it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from .aside import around, harmless, say, step_aside
from .imports import after_import

_DOCKERFILE = "flytectl serve FILE builds an image of a Dockerfile, without Docker"
_REST_S = 5.0
"""Seconds in which the last lines of a build may come after its end."""

_building: ContextVar[bool] = ContextVar("_building", default=False)
"""Whether the SDK builds an image, so that the run for which it waits is a build."""


def show(ours: Callable[[], bool]) -> None:
    """Have the output of each build shown from now on, if ``ours()`` is true when it begins."""

    @harmless
    def builder(module: Any) -> None:
        around(module.RemoteImageBuilder, "build_image", lambda old: _noting(old, ours))

    @harmless
    def action(module: Any) -> None:
        around(module.Action, "wait", _showing)

    after_import("flyte._internal.imagebuild.remote_builder", builder)
    after_import("flyte.remote._action", action)


def _noting(old: Callable[..., Any], ours: Callable[[], bool]) -> Callable[..., Any]:
    async def build_image(*args: Any, **kwargs: Any) -> Any:
        if not ours():
            return await old(*args, **kwargs)
        before = _building.set(True)
        try:
            return await old(*args, **kwargs)
        except Exception as error:
            if "Custom Dockerfile" not in str(error):
                raise
            raise type(error)(f"{error}\n{_DOCKERFILE}") from error
        finally:
            _building.reset(before)

    return build_image


def _showing(old: Callable[..., Any]) -> Callable[..., Any]:
    async def wait(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _building.get():
            return await old(self, *args, **kwargs)
        shown = asyncio.ensure_future(_show(self))
        try:
            return await old(self, *args, **kwargs)
        finally:
            await asyncio.wait([shown], timeout=_REST_S)
            shown.cancel()

    return wait


async def _show(build: Any) -> None:
    """Print each line of a build's output; why it failed is in the SDK's own error."""
    try:
        from flyte.remote._logs import Logs  # noqa: PLC0415
        from flyteidl2.logs.dataplane import payload_pb2  # noqa: PLC0415

        async for line in Logs.tail.aio(action_id=build.action_id):
            if line.originator != payload_pb2.SYSTEM:
                say(f"  {line.message.rstrip()}")
    except Exception as error:  # noqa: BLE001  the build goes on without it
        if type(error).__name__ != "ConnectError":  # that is the network, or an older flyted
            step_aside(error)
