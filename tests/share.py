"""Several machines share the tests: ``-p tests.share --share FOLDER``. Each takes the next module that nobody has."""

from __future__ import annotations

from itertools import groupby, zip_longest
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the machines tell each other what they took: a folder that all of them see, empty at first."""
    parser.addoption("--share", type=Path, metavar="FOLDER", help="do only the modules that nobody else has taken")


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Pytest's own loop, but for the modules of others. What a module leaves is torn down before the next is taken."""
    folder: Path | None = session.config.getoption("share")
    if folder is None or session.testsfailed or session.config.option.collectonly:
        return None  # pytest's own says what is wrong
    folder.mkdir(exist_ok=True)
    for path, module in groupby(session.items, lambda item: item.path):
        if not taken(folder / str(path.relative_to(session.config.rootpath)).replace("/", ".")):
            continue
        items = list(module)
        for item, after in zip_longest(items, items[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
    return True


def taken(mark: Path) -> bool:
    """Whether it is ours now: mkdir(2) is done by one only."""
    try:
        mark.mkdir()
    except FileExistsError:
        return False
    return True
