"""Runs each test twice in a row: ``tests/run -- -p tests.twice``.

What fails is run again (``--reruns``), in a machine in which it has run before: a test that cannot do that hides why
it failed first.
"""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Run a test once more than pytest does, and end between the two what pytest-rerunfailures would end."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
