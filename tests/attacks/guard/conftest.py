"""An ingress with two apps that want a token and one that does not.

The apps remember every connection: one that saw none was not woken either, since a connection is what wakes it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.guard.sent import state, tell, token_table
from tests.host.haproxy import App, Machine, apply, machine


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """An ingress with the three apps and the four tokens."""
    with machine(tmp_path_factory.mktemp("guard")) as running:
        apply(running, state(running))
        tell(running, token_table())
        yield running


@pytest.fixture(scope="module")
def apps(box: Machine) -> dict[str, App]:
    """The apps by name, and the gateway."""
    return {n: box.app(f"{n}-r1-0") for n in "abc"} | {"gateway": box.gateway()}


@pytest.fixture
def app(apps: dict[str, App]) -> App:
    """The guarded app, which has seen nothing yet."""
    for one in apps.values():
        one.seen.clear()
    return apps["a"]
