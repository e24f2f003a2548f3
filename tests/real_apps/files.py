"""Finds the app files of a checkout: Python files that make an app environment of Flyte's SDK."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_NOT_APPS = {"tests", "src", "plugins", "node_modules", ".git", ".venv"}
"""Folders at the top of a checkout, the SDK's own among them, whose files are no apps."""


def app_files(checkout: Path) -> Iterator[Path]:
    """Yield the files that call a class named ``…AppEnvironment`` or ``ConnectorEnvironment``, sorted."""
    for file in sorted(checkout.rglob("*.py")):
        if file.relative_to(checkout).parts[0] not in _NOT_APPS and file.is_file() and makes_an_app(file):
            yield file


def makes_an_app(file: Path) -> bool:
    text = file.read_text(encoding="utf-8", errors="replace")
    if "flyte" not in text or "Environment" not in text:
        return False
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return "AppEnvironment(" in text  # such a file is tried too, and found to be wrong
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = (getattr(each, "attr", getattr(each, "id", "")) for each in called)
    return any(name.endswith("AppEnvironment") or name == "ConnectorEnvironment" for name in names)
