"""Linters that take their time, such as mypy where it has not seen the code before: not with ``--fast``."""

from __future__ import annotations

import ast
import statistics

import pytest

from tests.test_linters import PYTHON, ROOT, check, is_shell, tool, tracked
from tests.walls import SOURCES, tree_of

pytestmark = pytest.mark.slow

MEDIAN_FUNCTION = 6
"""Lines, without the docstring."""


def test_mypy() -> None:
    """All code is typed, strictly; tests too."""
    check(tool("mypy"), "--cache-dir", str(ROOT / "build/mypy"), *PYTHON)


def test_codespell() -> None:
    """Words are spelled as a dictionary spells them."""
    names = [str(p.relative_to(ROOT)) for p in tracked() if p.suffix not in {".lock", ".age", ".gz", ".png"}]
    check(tool("codespell"), *names)


def test_shellcheck() -> None:
    """Shell scripts hold to shellcheck, maintainer scripts of the package included."""
    scripts = [str(p.relative_to(ROOT)) for p in tracked() if is_shell(p)]
    assert len(scripts) >= 3, "this check looks at nothing"
    check(tool("shellcheck"), "-x", *scripts)


def function_lines(tree: ast.AST) -> list[int]:
    """The lines of each function of a file, nested ones included, without its docstring."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [lines_of(f) - (lines_of(f.body[0]) if ast.get_docstring(f) else 0) for f in functions]


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_functions_are_short() -> None:
    """Half of all functions are read at a glance."""
    lengths = [length for path in SOURCES for length in function_lines(tree_of(path))]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION


def test_a_function_is_measured_without_its_docstring() -> None:
    """The measure itself."""
    assert function_lines(ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n')) == [2]
    assert function_lines(ast.parse("def f():\n    def g():\n        pass\n    return g\n")) == [4, 2]


ERRORS = {node.name for node in tree_of(ROOT / "flyted/contract/errors.py").body if isinstance(node, ast.ClassDef)}
OF_PROGRAMS = {"Refused", "Failed", "Unavailable", "Damaged"}
"""Errors of the programs that run in units of their own."""


def raised(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The errors that leave a function: those that it raises itself, outside of a ``try`` that may catch them."""
    found, todo = set(), list[ast.AST](function.body)
    while todo:
        node = todo.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                continue
            case ast.Raise(exc=ast.Call(func=ast.Name(id=name))):
                found.add(name)
            case ast.Try(handlers=[_, *_]):
                todo += [*node.handlers, *node.orelse, *node.finalbody]
                continue
        todo += ast.iter_child_nodes(node)
    return found & (ERRORS | OF_PROGRAMS)


def test_who_raises_says_so() -> None:
    """The docstring of a public function says that it raises; those of commands are their ``--help``."""
    functions = [
        (path, node) for path in SOURCES if path.parent.name != "commands" for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    ]  # fmt: skip
    raising = [(path, node, text) for path, node in functions if raised(node) and (text := ast.get_docstring(node))]
    assert len(raising) > 150, "this check looks at nothing"
    assert [f"{path}: {node.name}" for path, node, text in raising if "raise" not in text.lower()] == []
