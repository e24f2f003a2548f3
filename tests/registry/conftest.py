"""The registry of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.registry.server import Registry


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry that serves; it has nothing yet."""
    with Registry().serving() as serving:
        yield serving


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own proxies are not the tests'."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
