"""What the attacks are made on: an ingress with one app, and a secret store with three secrets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.host.vault import Vault
from tests.host.haproxy import App, Machine, apply, machine, one
from tests.host.vaults import ORG, PROJECT, opened, state_folder


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """An ingress that knows no app yet."""
    with machine(tmp_path_factory.mktemp("ingress")) as made:
        yield made


@pytest.fixture(scope="module")
def served(box: Machine) -> App:
    """The app ``a``."""
    made = box.app("a-r1-0")
    apply(box, one(box))
    return made


@pytest.fixture
def app(served: App) -> App:
    """The app, which has seen nothing yet."""
    served.seen.clear()
    return served


@pytest.fixture
def no_hang() -> Iterator[None]:
    """Ten seconds for each test: what hangs is killed and so seen."""
    signal.alarm(10)
    yield
    signal.alarm(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Like /var/lib/flyted."""
    return state_folder(tmp_path)


@pytest.fixture
def vault(folder: Path) -> Iterator[Vault]:
    """Three secrets; the tests tamper with A."""
    vault = opened(folder)
    vault.put(ORG, "A", b"value of A", replace=False)
    vault.put(ORG, "B", b"value of B", replace=False)
    vault.put(PROJECT, "A", b"value of the project's A", replace=False)
    yield vault
    vault.close()
