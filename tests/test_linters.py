"""Linters are tests. A tool that is missing skips its case on a laptop and fails it where CI or tests/run runs."""

from __future__ import annotations

import ast
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.walls import SOURCES, tree_of

ROOT = Path(__file__).parent.parent
PYTHON = [p for p in ("flyted", "flytectl", "tests", "benchmarks", "packaging") if any((ROOT / p).rglob("*.py"))]
LONGEST_FILE, MEDIAN_FUNCTION = 350, 6
"""Lines; of a function those without its docstring."""
SHELL = ("#!/bin/sh", "#!/bin/bash", "#!/usr/bin/env bash", "#!/usr/bin/bash")


def tool(name: str) -> str:
    """The tool beside this Python, else on the path."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        message = f"{name} is not installed: pip install -r tests/requirements.txt"
        if os.environ.get("CI") or os.environ.get("FLYTED_CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def check(*command: str) -> None:
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{Path(command[0]).name}:\n{done.stdout}{done.stderr}"


def tracked() -> list[Path]:
    """The files of the repository: what git knows or would add; all files when this is no git checkout."""
    listed = (
        subprocess.run(
            ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-coz", "--exclude-standard"],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if shutil.which("git") and (ROOT / ".git").exists()
        else None
    )
    if listed is not None and listed.returncode == 0:
        return sorted(ROOT / name for name in set(listed.stdout.split("\0")) if name and (ROOT / name).is_file())
    skip = {".git", "build", "__pycache__"}
    return sorted(p for p in ROOT.rglob("*") if p.is_file() and not skip & set(p.relative_to(ROOT).parts))


def is_shell(path: Path) -> bool:
    if path.suffix == ".sh" or (path.parent.name == "debian" and path.suffix in {".postinst", ".prerm", ".postrm"}):
        return True
    if path.suffix:
        return False
    with path.open("rb") as file:
        return file.readline(64).decode("utf-8", "replace").startswith(SHELL)


def python_files() -> list[Path]:
    return [p for p in tracked() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in PYTHON]


def function_lines(tree: ast.AST) -> list[int]:
    """The lines of each function of a file, nested ones included, without its docstring."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [lines_of(f) - (lines_of(f.body[0]) if ast.get_docstring(f) else 0) for f in functions]


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_file_is_long() -> None:
    """A file is about one thing: what is longer is split by subject, and not squeezed."""
    files = python_files()
    assert len(files) > 500, "this check looks at nothing"
    lines = {str(p.relative_to(ROOT)): p.read_bytes().count(b"\n") for p in files}
    assert {name: count for name, count in lines.items() if count > LONGEST_FILE} == {}


def test_functions_are_short() -> None:
    """Half of all functions are read at a glance."""
    lengths = [length for path in SOURCES for length in function_lines(tree_of(path))]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION


def test_a_function_is_measured_without_its_docstring() -> None:
    """The measure itself."""
    assert function_lines(ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n')) == [2]
    assert function_lines(ast.parse("def f():\n    def g():\n        pass\n    return g\n")) == [4, 2]


def test_ruff() -> None:
    """Every rule of ruff holds but those that pyproject.toml names with a reason."""
    check(tool("ruff"), "check", "--no-cache", "--quiet", ".")


@pytest.mark.parametrize(("docstring", "rules"), [("Returns one.", "D401"), ("Return one.", "")])
def test_a_docstring_begins_with_a_verb(tmp_path: Path, docstring: str, rules: str) -> None:
    """As an order, not as a description: PEP 257."""
    file = tmp_path / "one.py"
    file.write_text(f'"""Return a number."""\n\n\ndef one() -> int:\n    """{docstring}"""\n    return 1\n')
    settings = ("--config", str(ROOT / "pyproject.toml"), "--output-format", "concise", "--ignore", "INP001")
    done = subprocess.run(
        [tool("ruff"), "check", "--no-cache", "--quiet", *settings, str(file)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert [line.split()[1] for line in done.stdout.splitlines()] == rules.split()


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


def test_formatting() -> None:
    """Nobody argues about layout: ruff's formatter has nothing to change."""
    check(tool("ruff"), "format", "--no-cache", "--check", "--diff", "--quiet", *PYTHON)
