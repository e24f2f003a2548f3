"""Waiting for a module."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from flyted.companion.imports import after_import

NAME = "flyted_companion_test_module"


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{NAME}.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, NAME, raising=False)


def test_it_is_told_once_right_after_the_import() -> None:
    """With the whole module, which is otherwise as any other; the import machinery is as it was."""
    seen: list[ModuleType] = []
    before = list(sys.meta_path)
    after_import(NAME, seen.append)
    assert seen == []
    module = importlib.import_module(NAME)
    assert seen == [module]
    assert module.VALUE == 1
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert sys.meta_path == before
    assert importlib.reload(module) is module
    assert seen == [module]


def test_a_module_that_is_there_is_told_at_once() -> None:
    """Without anything left behind."""
    module, before = importlib.import_module(NAME), list(sys.meta_path)
    seen: list[ModuleType] = []
    after_import(NAME, seen.append)
    assert (seen, sys.meta_path) == ([module], before)


def test_a_module_that_never_comes_disturbs_nobody() -> None:
    """Other imports go their way."""
    before = list(sys.meta_path)
    after_import("flyted_no_such_module", lambda _: None)
    try:
        assert importlib.import_module(NAME).VALUE == 1
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("flyted_no_such_module")
    finally:
        sys.meta_path[:] = before
