"""For every test: what hypothesis may do, and which tests are too slow to run between two thoughts."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# no files (the machine's checkout is read-only) and no clock (machines are slow)
settings.register_profile("flyted", database=None, deadline=None)
settings.register_profile("fast", database=None, deadline=None, max_examples=20)  # tests/run --fast asks for it
settings.load_profile("flyted")

HERE = Path(__file__).parent
PROGRAMS = (
    "launch", "build", "attacks/test_ingress", "attacks/test_vault", "host/test_ingress", "host/test_vault",
    "host/test_store", "flytectl/test_load", "daemon/test_control", "gateway", "companion/test_flyte",
)  # fmt: skip
"""Folders and files whose tests start real programs: uvicorn, HAProxy, uv, the SDK, writers that are killed."""


# a shell without job control starts its background commands, and so all that they start, with Ctrl-C ignored
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def _collected() -> Iterator[None]:
    """Makes what a module's tests leave unclosed fail there, not in whatever runs when the collector does."""
    yield
    gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what ``tests/run --fast`` leaves out."""
    for item in items:
        if str(item.path.relative_to(HERE)).startswith(PROGRAMS):
            item.add_marker(pytest.mark.programs)
