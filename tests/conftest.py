"""Settings of all tests: what hypothesis may do, which modules are slow, which tests are run once only."""

from __future__ import annotations

import gc
import signal
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis.strategies import none

# no files (the machine's checkout is read-only) and no clock (machines are slow)
settings.register_profile("flyted", database=None, deadline=None)
settings.register_profile("fast", database=None, deadline=None, max_examples=10)

HERE = Path(__file__).parent
SLOW = b"pytest.mark.slow"
DAEMON = HERE / "daemon"  # its whole loop with a faked machine: 5 % of the tests would take 30 % of the time


# a shell without job control starts its background commands, and so all that they start, with Ctrl-C ignored
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that ``tests/run --fast`` passes on."""
    parser.addoption("--fast", action="store_true", help="leave out what takes its time, and try fewer examples")
    parser.addoption("--part", metavar="I/N", default="1/1", help="take part I of N parts of the modules")


@pytest.hookimpl(trylast=True)  # behind rerunfailures, which connects here
def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples with ``--fast``, and spare each test a wait of 40 ms.

    A worker of pytest-xdist sends rerunfailures two small messages for each test: Nagle's algorithm holds the second
    back until the first is acknowledged, which the kernel delays.
    """
    settings.load_profile("fast" if config.getoption("fast") else "flyted")
    if connection := getattr(getattr(config, "failures_db", None), "sock", None):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out modules of other parts and, with ``--fast``, the slow ones: to import them takes seconds."""
    if not collection_path.name.startswith("test_"):
        return None
    others = not is_of_part(collection_path, config.getoption("part"))
    return True if others or (config.getoption("fast") and is_slow(collection_path)) else None


def is_slow(module: Path) -> bool:
    """Report whether a module tests the whole daemon, or says itself that it is slow."""
    return DAEMON in module.parents or SLOW in module.read_bytes()


def is_of_part(module: Path, part: str) -> bool:
    """Report whether a module is of part ``I/N``: each is of one of the N, by its path alone."""
    number, count = map(int, part.split("/"))
    return zlib.crc32(str(module.relative_to(HERE)).encode()) % count == number - 1


@pytest.fixture(autouse=True, scope="module")
def _collected(pytestconfig: pytest.Config) -> Iterator[None]:
    """Collect garbage behind each module, so that what its tests left unclosed fails there and not elsewhere."""
    yield
    if not pytestconfig.getoption("fast"):
        gc.collect()


def pytest_collection_finish() -> None:
    """Hide what was imported from the garbage collector, which then takes 20 ms instead of 200."""
    # Hypothesis asks the collector who holds its random numbers, at its first test: so before they are out of sight
    given(none())(lambda _: None)()
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep ``--reruns`` from what must never fail: an attack that succeeds once in two times has succeeded."""
    if config.pluginmanager.hasplugin("rerunfailures"):
        for item in items:
            if item.get_closest_marker("once") or HERE / "attacks" in item.path.parents:
                item.add_marker(pytest.mark.flaky(reruns=0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print why a test failed that passed when it was run again (``--reruns``): it is to be mended all the same."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"failed the first time: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)
