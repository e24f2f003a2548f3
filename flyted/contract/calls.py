"""Finds calls of Flyte's control plane (``flyte.run``, ``flyte.remote``) in an app's code before it is served. Pure.

This machine has no control plane, so such a call fails when the app makes it (launch/control_plane.py), unless the app
names a cluster. Whether the app ever makes it cannot be known: the user is warned, and the app is not refused.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

NAMED_BY = ("EAGER_API_KEY", "_UNION_EAGER_API_KEY", "UCTL_CONFIG", "FLYTECTL_CONFIG", "FLYTE_ADMIN_ENDPOINT")
"""Variables that name a cluster; any one of them is enough. launch/control_plane.py has the same list."""
_CALLS = frozenset({"run", "with_runcontext", "serve", "with_servecontext", "deploy"})
_NAMES_A_CLUSTER = frozenset({"init", "init_from_config", "init_from_api_key"})
_SHOWN = 4  # names in one sentence


def notes(sources: Mapping[str, str], given: AbstractSet[str]) -> Iterator[str]:
    """Yield at most one sentence, which names the calls that fail.

    ``sources``: path → text of a Python file. ``given``: names of the app's variables, those of secrets included.
    Nothing is said of an app that names a cluster by a variable or in its code.
    """
    if given & set(NAMED_BY):
        return
    found = sorted({name for text in sources.values() if "flyte" in text for name in _called(text)})
    if not found or any(name.removeprefix("flyte.") in _NAMES_A_CLUSTER for name in found):
        return
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    yield (
        f"its code calls {', '.join(found[:_SHOWN])}{more}, which will fail: tasks and runs need a Flyte "
        "cluster (an app can use one with the secret EAGER_API_KEY)"
    )


def _called(text: str) -> Iterator[str]:
    try:
        tree = ast.parse(text)
        names = dict(_imported(tree))
        for statement in tree.body:
            if not (isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)):
                yield from _calls_in(statement, names)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # a file that cannot be parsed may never be imported


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each name that a file imports from the SDK, with the dotted name that it stands for."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                for alias in names:
                    if alias.name.partition(".")[0] == "flyte":
                        yield alias.asname or "flyte", alias.name if alias.asname else "flyte"
            case ast.ImportFrom(module=str(module), names=names, level=0) if module.partition(".")[0] == "flyte":
                for alias in names:
                    yield alias.asname or alias.name, f"{module}.{alias.name}"


def _calls_in(node: ast.AST, names: Mapping[str, str]) -> Iterator[str]:
    """Yield the calls of the control plane below ``node``, leaving out those in tasks: a task runs on a cluster."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(map(_is_task, node.decorator_list)):
        return
    if isinstance(node, ast.Call) and not _is_local(node):
        first, _, rest = _dotted(node.func).partition(".")
        whole = ".".join(part for part in (names.get(first, ""), rest) if part)
        if first in names and _matters(whole):
            yield whole.removesuffix(".aio")
    for below in ast.iter_child_nodes(node):
        yield from _calls_in(below, names)


def _matters(name: str) -> bool:
    sdk = name.removeprefix("flyte.").removesuffix(".aio")
    return sdk in _CALLS or sdk in _NAMES_A_CLUSTER or sdk.startswith("remote.")


def _dotted(expression: ast.expr) -> str:
    """Return ``a.b.c`` for an expression of names and attributes, the empty string for any other."""
    parts: list[str] = []
    while isinstance(expression, ast.Attribute):
        parts.append(expression.attr)
        expression = expression.value
    return ".".join([expression.id, *reversed(parts)]) if isinstance(expression, ast.Name) else ""


def _is_task(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Attribute) and called.attr == "task"


def _is_local(call: ast.Call) -> bool:
    """Report whether a call has ``mode="local"``, which needs no control plane."""
    return any(
        word.arg == "mode" and isinstance(word.value, ast.Constant) and word.value.value == "local"
        for word in call.keywords
    )
