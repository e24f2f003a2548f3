"""An ingress with one app, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.haproxy import App, Machine, apply, machine, one


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
