"""Shares the test modules among several machines: ``-p tests.share --share FOLDER``.

Each machine takes the next module that no other has taken, the longest first, by the seconds that ``durations.txt``
records. What each module took this time is left in FOLDER; ``tests/durations.py`` compares the two.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from itertools import groupby, zip_longest
from pathlib import Path

import pytest

from tests.durations import recorded

FIRST = "tests/machine/test_story.py"  # its first step is what a user meets who has done nothing yet


_once: list[float] = []


@contextlib.contextmanager
def once_per_machine() -> Iterator[None]:
    """Excludes the body from the time of its module: it runs once per machine, in whichever module comes first."""
    began = time.monotonic()
    try:
        yield
    finally:
        _once.append(time.monotonic() - began)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--share FOLDER``, where machines mark what they took: all of them see it, and it is empty at first."""
    parser.addoption("--share", type=Path, metavar="FOLDER", help="run only the modules that nobody else has taken")


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Runs pytest's own loop, except for modules of others. A module is torn down before the next one is taken."""
    folder: Path | None = session.config.getoption("share")
    if folder is None or session.testsfailed or session.config.option.collectonly:
        return None  # pytest's own loop says what is wrong
    folder.mkdir(exist_ok=True)
    root = session.config.rootpath
    modules = {
        str(path.relative_to(root)): list(items) for path, items in groupby(session.items, lambda item: item.path)
    }
    for module in longest_first(list(modules), recorded()):
        mark = folder / module.replace("/", ":")
        if taken(mark):
            _once.clear()
            began = time.monotonic()
            run(session, modules[module])
            (mark / "seconds").write_text(f"{time.monotonic() - began - sum(_once):.1f}")
    return True


def longest_first(modules: list[str], seconds: dict[str, float]) -> list[str]:
    """Orders modules: ``FIRST``, then those without a record, then by falling duration."""
    return sorted(modules, key=lambda module: (module != FIRST, -seconds.get(module, float("inf"))))


def run(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Runs the tests of one module.

    Raises:
        session.Interrupted: a plugin wants the run to stop, such as after ``--maxfail`` failures.
    """
    for item, after in zip_longest(items, items[1:]):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)


def taken(mark: Path) -> bool:
    """Returns True if the module is ours now: only one machine's mkdir(2) succeeds."""
    try:
        mark.mkdir()
    except FileExistsError:
        return False
    return True
