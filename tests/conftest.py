"""For every test: what hypothesis may do, and which tests are too slow to run between two thoughts."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis.strategies import none

# no files (the machine's checkout is read-only) and no clock (machines are slow)
settings.register_profile("flyted", database=None, deadline=None)
settings.register_profile("fast", database=None, deadline=None, max_examples=10)

HERE = Path(__file__).parent
PROGRAMS = (
    "launch", "build", "attacks/test_credential_socket", "attacks/test_ingress", "attacks/test_vault",
    "host/test_ingress", "host/test_vault", "host/test_store", "host/test_rotation", "flytectl/test_cli",
    "flytectl/test_load", "daemon/test_control", "daemon/test_grants", "gateway", "companion/test_flyte",
)  # fmt: skip
"""Whose tests start real programs (uvicorn, HAProxy, uv, the SDK, flytectl, writers that are killed) or a crowd."""


# a shell without job control starts its background commands, and so all that they start, with Ctrl-C ignored
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What ``tests/run --fast`` asks for."""
    parser.addoption("--fast", action="store_true", help="leave out what takes its time, and try fewer examples")


def pytest_configure(config: pytest.Config) -> None:
    """Fewer examples with ``--fast``."""
    settings.load_profile("fast" if config.getoption("fast") else "flyted")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What ``--fast`` leaves out is not even imported."""
    left_out = config.getoption("fast") and collection_path.is_relative_to(HERE)
    return True if left_out and str(collection_path.relative_to(HERE)).startswith(PROGRAMS) else None


@pytest.fixture(autouse=True, scope="module")
def _collected(pytestconfig: pytest.Config) -> Iterator[None]:
    """Makes what a module's tests leave unclosed fail there, not in whatever runs when the collector does."""
    yield
    if not pytestconfig.getoption("fast"):
        gc.collect()


def pytest_collection_finish() -> None:
    """What was imported stays, so the collector need not look at it each time: 20 ms instead of 200."""
    # Hypothesis asks the collector who holds its random numbers, at its first test: so before they are out of sight
    given(none())(lambda _: None)()
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps ``--reruns`` from what may fail never: an attack that succeeds once in two times has succeeded."""
    if config.pluginmanager.hasplugin("rerunfailures"):
        for item in items:
            if item.get_closest_marker("once") or HERE / "attacks" in item.path.parents:
                item.add_marker(pytest.mark.flaky(reruns=0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints why a test failed that passed when it was run again (``--reruns``): it is to be mended all the same."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"failed the first time: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)
