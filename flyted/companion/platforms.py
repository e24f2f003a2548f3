"""Refuses ``Image(platform=…)`` for a machine other than this one: the SDK sends it to no remote builder."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from typing import Any

from .aside import around, harmless
from .imports import after_import

MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}


def refuse(here: Callable[[], bool]) -> None:
    """Check each plan of a deployment if ``here()``: if the SDK then talks to the flyted of this machine.

    The SDK's ``plan_deploy`` then raises DeploymentError for an image that is not for this machine.
    """

    @harmless
    def install(module: Any) -> None:
        around(module, "plan_deploy", lambda old: _looking(old, here))

    after_import("flyte._deploy", install)


def _looking(old: Callable[..., Any], here: Callable[[], bool]) -> Callable[..., Any]:
    def plan_deploy(*args: Any, **kwargs: Any) -> Any:
        plans = old(*args, **kwargs)
        own = MACHINES.get(platform.machine()) if sys.platform == "linux" else None
        if own and here():
            for plan in plans:
                for environment in plan.envs.values():
                    _check(environment, own)
        return plans

    return plan_deploy


def _check(environment: Any, own: str) -> None:
    asked = tuple(getattr(environment.image, "platform", None) or ())
    if asked and own not in asked:
        from flyte.errors import DeploymentError  # noqa: PLC0415

        raise DeploymentError(
            f"{environment.name}: the image is for {', '.join(asked)} (platform=); this machine is {own}"
        )
