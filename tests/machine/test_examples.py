"""The examples that come with the package, served as it brings them."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.users import EXAMPLES, alice, answer, curl, serve

INSTALLED = Path("/usr/share/doc/flyted/examples")


@pytest.fixture(scope="module")
def hello() -> Iterator[str]:
    """The smallest example, copied by alice and served as it is; its URL."""
    alice("cp", str(INSTALLED / "hello.py"), ".")
    yield serve("hello.py")
    alice("flytectl", "app", "delete", "--yes", "--data", "hello")


def test_the_package_has_the_examples_of_the_project() -> None:
    """All of them, unchanged, where Debian wants examples."""
    names = sorted(path.name for path in EXAMPLES.iterdir() if path.is_file())
    assert sorted(path.name for path in INSTALLED.iterdir()) == names
    assert filecmp.cmpfiles(EXAMPLES, INSTALLED, names, shallow=False)[0] == names


def test_the_first_try_needs_nothing_but_the_package(hello: str) -> None:
    """No secret, no file of one's own: it answers over HTTPS, with the document's defaults for what it leaves out."""
    status, body = curl(hello)
    assert (status, json.loads(body)) == (200, {"message": "Hello, world!"})
    assert json.loads(curl(f"{hello}/?name=alice")[1]) == {"message": "Hello, alice!"}
    app = answer("app", "get", "hello")
    assert (app["state"], app["secrets"], app["min_replicas"]) == ("running", [], 0)
