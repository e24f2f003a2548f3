"""flyted-compat(7) is of every version of the SDK that flyted supports: the three newest minor lines."""

from __future__ import annotations

import re
import tomllib

import pytest

from flyted.contract.idl_fields import KNOWN
from tests.compat import commands, fields, remote
from tests.compat.page import PAGE
from tests.compat.versions import FILE, ROOT, asked, read, span, written

VERSIONS = read(FILE.read_text())
REFUSED = {
    "spec.container.architecture", "spec.container.config", "spec.container.dataConfig",
}  # fmt: skip
"""Fields of the message that describes an app which are refused as unknown: the SDK has no word for them."""


def names(kind: str) -> set[str]:
    """All names of a kind that any version has."""
    return {
        name.removeprefix(f"{kind} ") for found in VERSIONS.values() for name in found if name.startswith(f"{kind} ")
    }


def test_the_listing_is_of_three_minor_lines_from_the_oldest_that_may_be_installed() -> None:
    """Of the one that CI installs, too, which is its last."""
    lines = {version.rpartition(".")[0] for version in VERSIONS}
    assert len(lines) >= 3
    oldest, *_, newest = VERSIONS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"flyte>={oldest.removesuffix('.0')}" in project["optional-dependencies"]["sdk"]
    assert f"flyte=={newest}" in (ROOT / "tests/requirements.txt").read_text().splitlines()
    said = re.search(r"Flyte SDK ([\d.]+) to ([\d.]+),", PAGE.read_text())
    assert said is not None
    assert [f"{line}." for line in said.groups()] == [
        version[: version.rindex(".") + 1] for version in (oldest, newest)
    ]


def test_each_name_of_each_version_has_its_row() -> None:
    """And no row is of what none of them has."""
    assert names("field") == fields.FIELDS.keys()
    assert names("command") == commands.COMMANDS.keys()
    assert names("method") == remote.METHODS.keys()
    page = PAGE.read_text()
    assert {
        name for name in names("image") if f".It Fn {name}\n" not in page and f".It Li {name} " not in page
    } == set()


def test_each_field_of_the_message_is_known_or_refused() -> None:
    """Also those that only a newer or an older version sends."""
    known = {f"{path}.{name}" if path else name for path, names in KNOWN.items() for name in names}
    assert names("message") - known == REFUSED
    assert known <= names("message")


def test_what_only_some_versions_have_is_marked() -> None:
    page = PAGE.read_text()
    some = {name for found in VERSIONS.values() for name in found if span(name, VERSIONS)}
    assert "field AppEnvironment.cluster" in some
    for kind, _, name in (each.partition(" ") for each in some):
        if kind in ("field", "command", "method"):
            assert re.search(rf"^\.It Li {re.escape(name)}\n.*\((since|until) 2\.", page, re.MULTILINE), name


@pytest.mark.parametrize(
    ("having", "words"),
    [("abc", ""), ("bc", "since b"), ("ab", "until b"), ("b", "since b, until b"), ("c", "since c"), ("a", "until a")],
)
def test_since_and_until_when(having: str, words: str) -> None:
    found = {version: ["field x"] if version in having else [] for version in "abc"}
    assert span("field x", found) == words
    assert read(written({**found, "a": [*found["a"], "field y"]}))["a"][-1] == "field y"


@pytest.mark.parametrize("having", ["", "ac"])
def test_what_came_twice_or_never_has_no_mark(having: str) -> None:
    with pytest.raises(ValueError, match="field x is in"):
        span("field x", {version: ["field x"] if version in having else [] for version in "abc"})


@pytest.mark.long
@pytest.mark.parametrize("version", VERSIONS)
def test_the_listing_is_what_the_version_has(version: str) -> None:
    """Installed from the package index. To write the listing: python -m tests.compat.versions."""
    assert asked(version) == sorted(VERSIONS[version])


def test_the_listing_is_written_as_it_was_read() -> None:
    assert written(VERSIONS) == FILE.read_text()
