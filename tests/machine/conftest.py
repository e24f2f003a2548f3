"""Tests of the installed package, as root in the booted machine; nowhere else: they change the machine they run on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
START_TIMEOUT_S = 20  # enough for an app that starts on a busy machine

# outside they cannot even be read: they import what only the machine has (sudo tests/run runs them)
collect_ignore_glob = [] if os.environ.get("FLYTED_IN_MACHINE") else ["*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks everything in this folder as ``machine``."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.machine)


@pytest.fixture(scope="module", autouse=True)
def alice_may_serve() -> None:
    """Each module begins with an alice who may use flyted, and whose programs trust its certificates."""
    from tests.machine.kit.users import may_serve

    may_serve()


@pytest.fixture(scope="module")
def stub_app() -> Iterator[None]:
    """`stub_app` can be made the program of an app's units (kit/units.py), and no daemon stops those."""
    from tests.machine.kit.units import stub_app

    with stub_app():
        yield


@pytest.fixture
def impatient() -> Iterator[int]:
    """A start may take seconds instead of minutes; how many."""
    from tests.machine.kit.settings import settings

    with settings(f"[apps]\nstart_timeout = {START_TIMEOUT_S}"):
        yield START_TIMEOUT_S


@pytest.fixture(scope="module")
def pypi_flyte() -> None:
    """PyPI's flyte is set up for alice (kit/pypi_flyte.py), and her programs trust flyted's certificates."""
    from tests.machine.kit.pypi_flyte import prepare
    from tests.machine.kit.users import alice

    prepare()
    alice("sudo", "flytectl", "ca", "install")


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """The layer below all others (kit/layers.py); what a module makes above it is removed."""
    from tests.machine.kit import layers

    with layers.clean():
        yield layers.base()


@pytest.fixture(scope="module")
def fake_gpus() -> Iterator[None]:
    """A library and device nodes in the place of NVIDIA's (kit/gpus.py); a start waits ``WAIT_S`` for a GPU."""
    from tests.machine.kit.gpus import WAIT_S, driver
    from tests.machine.kit.settings import settings

    with settings(f"[apps]\ngpu_wait = {WAIT_S}"), driver():
        yield


@pytest.fixture
def two_gpus() -> Iterator[None]:
    """The test begins on a machine without apps, and with two GPUs."""
    from tests.machine.kit.gpus import TWO, has
    from tests.machine.kit.users import forget_apps

    has(TWO)
    yield
    has(TWO)
    forget_apps("")


@pytest.fixture(scope="module")
def no_apps_left() -> Iterator[None]:
    """All apps are deleted behind the module."""
    from tests.machine.kit.users import alice, answer

    yield
    for app in answer("app", "ls", "--all")["apps"]:
        alice("flytectl", "app", "delete", "--yes", "--data", app["name"], "-p", app["project"], "-d", app["domain"])


@pytest.fixture
def unchanged() -> Iterator[None]:
    """Apps, secrets, units and files are afterwards what they were before."""
    from tests.machine.kit.users import everything

    before = everything()
    yield
    assert everything() == before
