"""The daemon's table of verbs, as its code has it: what each returns, may do, and changes."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.walls import ROOT, SOURCES, tree_of

pytestmark = pytest.mark.slow  # all the daemon's code is read


def trees(folder: str) -> Iterator[ast.Module]:
    """The parsed files of a folder."""
    yield from (tree_of(path) for path in SOURCES if path.is_relative_to(ROOT / folder))


def rows() -> Iterator[tuple[str, ast.Call, ast.Module]]:
    """Every verb, its row in the table, and the file of that."""
    for tree in trees("flyted/daemon"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                for key, row in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(row, ast.Call) and ast.unparse(row.func) == "Verb":
                        yield str(key.value), row, tree


def answered() -> dict[str, str]:
    """Each verb, and the class of answer that its handler is declared to return."""
    return {verb: returned(ast.unparse(row.args[2]).removeprefix("self."), tree) for verb, row, tree in rows()}


def returned(handler: str, tree: ast.Module) -> str:
    """The type that a coroutine function of a file is declared to return."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and node.name == handler)
    return next(ast.unparse(node.returns) for node in functions if node.returns is not None)


def expected() -> Iterator[tuple[str, str]]:
    """Each verb that flytectl and the gateway call by its name, and the class of answer that they name with it."""
    for folder in ("flytectl", "flyted/gateway"):
        for tree in trees(folder):
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("call", "_call"):
                    kind, verb, *_ = (*node.args, None, None)
                    if isinstance(kind, ast.Name) and isinstance(verb, ast.Constant):
                        yield str(verb.value), kind.id


def test_clients_expect_what_the_daemon_answers() -> None:
    """The class that a call names is the one that the verb's handler returns, for every verb of the table."""
    answers_of = answered()
    calls = set(expected())
    assert len(calls) > 25
    assert {(verb, kind) for verb, kind in calls if answers_of[verb] != kind} == set()
    several = ("app.start", "app.stop", "app.sleep", "app.delete")  # one call for all of them
    assert {answers_of[verb] for verb in several} == {"AppStatus"}


def test_every_verb_that_changes_something_is_marked() -> None:
    """More than reading is a change, but for a check and for what shows root the machine's key; so is every login."""
    table = {verb: row for verb, row, _ in rows()}
    assert len(table) > 25
    marked = {verb for verb, row in table.items() if "changes=True" in map(ast.unparse, row.keywords)}
    wanted = {
        verb for verb, row in table.items() if ast.unparse(row.args[0]) != "Right.READ" or verb.startswith("login.")
    }
    assert marked == wanted - {"app.check", "secret.identity"}
