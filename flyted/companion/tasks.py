"""Leaves tasks out of deployments: flyted serves the apps, and the user is shown which tasks are not deployed.

That is said in one sentence, before an image is built for a task. A parameter whose value only a run or a published
artifact has is refused with the reason: the SDK would only say that it could not get the value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .aside import around, harmless, say
from .imports import after_import

NOT_HERE = "flyted serves apps; tasks, runs, triggers and artifacts need a Flyte cluster"
"""The same text as in ``contract/errors.py``, which the companion may not import."""
_SHOWN = 8
_said: set[str] = set()
"""Sentences that this process has printed: one deployment is planned more than once."""


def leave_out(ours: Callable[[], bool]) -> None:
    """Leave tasks out of plans of deployments from now on, if ``ours()`` is true at the time of the plan.

    The SDK's functions then raise DeploymentError for a plan without an app, and for a parameter that only a run or a
    published artifact has.
    """

    @harmless
    def plans(module: Any) -> None:
        around(module, "plan_deploy", lambda old: _without_tasks(old, ours))

    @harmless
    def values(module: Any) -> None:
        for name, what in (("RunOutput", "output of a run"), ("ArtifactValue", "published artifact")):
            if hasattr(module, name):  # older SDKs know no artifacts
                around(getattr(module, name), "materialize", functools.partial(_refused, what, ours))

    after_import("flyte._deploy", plans)
    after_import("flyte.app._parameter", values)


def _without_tasks(old: Callable[..., Any], ours: Callable[[], bool]) -> Callable[..., Any]:
    def plan_deploy(*args: Any, **kwargs: Any) -> Any:
        plans = old(*args, **kwargs)
        if not ours():
            return plans
        names, left = [], []
        for plan in plans:
            tasks = {name: env for name, env in plan.envs.items() if hasattr(env, "tasks")}
            names += [task for name, env in tasks.items() for task in (list(env.tasks) or [name])]
            for name in tasks:
                del plan.envs[name]
            if plan.envs:
                left.append(plan)
        if names and not left:
            raise _failure(f"there is no app to serve here, only {_listed(names)}: {NOT_HERE}")
        if names:
            _say_once(f"note: {_listed(names)} {'is' if len(names) == 1 else 'are'} not deployed: {NOT_HERE}")
        return left

    return plan_deploy


def _listed(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{'task' if len(names) == 1 else 'tasks'} {shown}{more}"


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        say(text)


def _failure(text: str) -> Exception:
    from flyte.errors import DeploymentError  # noqa: PLC0415

    failure: Exception = DeploymentError(text)
    return failure


def _refused(what: str, ours: Callable[[], bool], old: Callable[..., Any]) -> Callable[..., Any]:
    async def materialize(self: Any) -> Any:
        if not ours():
            return await old(self)
        raise _failure(
            f"a parameter is the {what}, which does not exist here ({NOT_HERE}): give a string, File or Dir instead"
        )

    return materialize
