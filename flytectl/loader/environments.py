"""Finds the app environments of a file, and the order in which they are served."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .failure import HERE, LoadError
from .sdk import find

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType


NOT_HERE = "flyted serves apps; tasks, runs, triggers and artifacts need a Flyte cluster"
"""A copy of that in ``flyted/contract/errors.py``: the loader imports no other code of flyted's."""


class Found(NamedTuple):
    """An environment, in ``variable`` of ``module``; both empty if no module-level variable holds it."""

    environment: Any
    module: str
    variable: str


def choose(module: ModuleType, wanted: str | None) -> list[Found]:
    """Return the environments to serve, dependencies first: all of the file, or the one named ``wanted`` and its own.

    ``wanted``: the name of a variable or app. Raise LoadError: ``no-environment``, ``unknown-environment``,
    ``unsupported``, ``environment``.
    """
    own = _of(module)
    if not own and any(isinstance(value, find("flyte", "TaskEnvironment")) for value in vars(module).values()):
        raise LoadError(
            "no-environment",
            f"{module.__name__.rpartition('.')[2]}.py has tasks but no app: {NOT_HERE}",
            hint="deploy it to a cluster with flyte deploy, or add an app: flyte.app.AppEnvironment",
        )
    if not own:
        raise LoadError(
            "no-environment",
            f"{module.__name__.rpartition('.')[2]}.py has no app environment at module level",
            hint='add one: env = FastAPIAppEnvironment(name="my-app", app=app, …); see flyte.app.AppEnvironment',
        )
    roots = own
    if wanted is not None:
        roots = [each for each in own if wanted in {each.variable, each.environment.name}]
        if not roots:
            names = ", ".join(f"{each.variable} ({each.environment.name})" for each in own)
            raise LoadError("unknown-environment", f"the file has no environment {wanted!r}", hint=f"it has: {names}")
    chosen = _ordered(roots)
    for found in chosen:
        _check_parameters(found.environment)
    return chosen


def _check_parameters(environment: Any) -> None:
    """Raise LoadError("environment") for an entry of ``parameters`` of another type, which the SDK does not check."""
    kind = find("flyte.app", "Parameter")
    for each in environment.parameters:
        if not isinstance(each, kind):
            raise LoadError(
                "environment",
                f"{environment.name}: {each!r} in parameters is not a flyte.app.Parameter",
                hint='write parameters=[flyte.app.Parameter(name="…", value=…)]',
            )


def _of(module: ModuleType) -> list[Found]:
    kind = find("flyte.app", "AppEnvironment")
    seen: dict[int, Found] = {}
    for name, value in vars(module).items():
        if isinstance(value, kind):
            seen.setdefault(id(value), Found(value, module.__name__, name))
    return list(seen.values())


def _ordered(roots: Iterable[Found]) -> list[Found]:
    done: dict[str, Found] = {}
    for root in roots:
        _visit(root, [], done)
    return list(done.values())


def _visit(found: Found, path: list[str], done: dict[str, Found]) -> None:
    name = found.environment.name
    if name in path:
        circle = " → ".join([*path[path.index(name) :], name])
        hint = "remove one of these dependencies; to let that app call the other: --may-call"
        raise LoadError("unsupported", f"depends_on is circular: {circle}", hint=hint)
    if name in done:
        if done[name].environment is not found.environment:
            raise LoadError("unsupported", f"two environments are named {name!r}", hint="give each app its own name")
        return
    for other in _apps(found.environment):
        _visit(_dependency(other, name), [*path, name], done)
    done[name] = found


def _apps(environment: Any) -> list[Any]:
    """Return the environments that this one depends on, without tasks.

    An app that depends on tasks is served; their names are shown to the user (:func:`tasks`).
    """
    return [other for other in environment.depends_on if not isinstance(other, find("flyte", "TaskEnvironment"))]


def tasks(chosen: Iterable[Found]) -> list[str]:
    """Return the names of the tasks that the environments depend on, which Flyte would deploy with them."""
    kind, seen, names = find("flyte", "TaskEnvironment"), set(), []
    left = [found.environment for found in chosen]
    while left:
        environment = left.pop()
        if id(environment) not in seen:
            seen.add(id(environment))
            left += environment.depends_on
            names += list(environment.tasks) or [environment.name] if isinstance(environment, kind) else []
    return sorted(set(names))


def _dependency(environment: Any, needed_by: str) -> Found:
    if not isinstance(environment, find("flyte.app", "AppEnvironment")):
        raise LoadError(
            "unsupported",
            f"{needed_by}: depends_on names {environment.name!r}, a {type(environment).__name__}; only apps run here",
            hint="remove it from depends_on",
        )
    for name, module in list(sys.modules.items()):
        for variable, value in list(getattr(module, "__dict__", {}).items()):
            if value is environment:
                return Found(environment, name, variable)
    return Found(environment, "", "")


def settle(chosen: Iterable[Found]) -> None:
    """Correct the SDK's record of the file in which each environment was made.

    The SDK takes a file below any folder named `flyte` for its own, and goes up the stack to this loader: relative
    ``include`` paths would start here. It would also import that file again to find the variable, which is known here.
    """
    for found in chosen:
        environment = found.environment
        made_in = getattr(getattr(environment, "_caller_frame", None), "filename", None)
        declared = getattr(environment, "_declaring_file", None) or HERE
        if made_in and Path(declared).is_relative_to(HERE):
            environment._declaring_file = made_in  # noqa: SLF001 -- the SDK has no public way
        environment._caller_frame = None  # noqa: SLF001 -- translate.py sets the resolver's arguments itself


def depends_on(found: Found) -> list[str]:
    """Return the names of the apps in this one's ``depends_on``, in its order."""
    return list(dict.fromkeys(other.name for other in _apps(found.environment)))


def with_dependencies(found: Found) -> list[Any]:
    """Return the environment and all its dependencies: the SDK bundles the ``include`` files of all of them."""
    return [each.environment for each in _ordered([found])]


def kind(environment: Any) -> str:
    """Return ``fastapi``, ``vllm``, ``sglang`` or ``app``, by the environment's classes."""
    words = {
        "FastAPIAppEnvironment": "fastapi",
        "VLLMAppEnvironment": "vllm",
        "SGLangAppEnvironment": "sglang",
    }
    return next((words[cls.__name__] for cls in type(environment).__mro__ if cls.__name__ in words), "app")
