"""Waiting for a module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

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


def test_a_look_for_the_module_is_no_import() -> None:
    """Who only asks whether it is there (importlib.util.find_spec) leaves the wait as it was."""
    seen: list[ModuleType] = []
    before = list(sys.meta_path)
    after_import(NAME, seen.append)
    for _ in range(2):
        spec = importlib.util.find_spec(NAME)
        assert spec is not None
        loader: Any = spec.loader
        assert loader.get_source(NAME) == "VALUE = 1\n"
    assert seen == []
    module = importlib.import_module(NAME)
    assert (seen, sys.meta_path) == ([module], before)


def test_an_import_that_fails_once_is_waited_for_again(tmp_path: Path) -> None:
    """As when the module needs another that is not there yet: the second import tells of it."""
    file = tmp_path / f"{NAME}.py"
    file.write_text("raise ImportError('not yet')\n")
    seen: list[ModuleType] = []
    before = list(sys.meta_path)
    after_import(NAME, seen.append)
    with pytest.raises(ImportError, match="not yet"):
        importlib.import_module(NAME)
    assert seen == []
    file.write_text("VALUE = 'the second time'\n")
    importlib.invalidate_caches()
    module = importlib.import_module(NAME)
    assert (seen, module.VALUE, sys.meta_path) == ([module], "the second time", before)


def test_two_can_wait_for_one_module() -> None:
    """Each is told once, in the order of their wish or not; none takes the other's place."""
    seen: list[str] = []
    before = list(sys.meta_path)
    after_import(NAME, lambda _: seen.append("first"))
    after_import(NAME, lambda _: seen.append("second"))
    importlib.import_module(NAME)
    assert (sorted(seen), sys.meta_path) == (["first", "second"], before)


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
