"""The loader's answer comes from a process that ran the user's code: each lie in it is refused."""

from __future__ import annotations

import copy
import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytectl import loaded
from flyted.contract.errors import (
    FlytedError,
    InvalidInput,
    PackageMissing,
    SdkMissing,
    SdkUnfit,
    Unsupported,
    UserCodeFailed,
)

pytestmark = pytest.mark.slow

BUNDLE = b"the bytes of a bundle"
GOOD: dict[str, Any] = {
    "v": 1,
    "sdk": "2.12.1",
    "python": "3.11.7",
    "executable": "/usr/bin/python3",
    "root": "/home/u",
    "tasks": ["work.add"],
    "apps": [
        {
            "variable": "env",
            "idl": {"metadata": {"id": {"name": "hello"}}},
            "image": None,
            "image_files": {},
            "image_folders": {},
            "depends_on": [],
            "bundle": 0,
            "kind": "fastapi",
            "server": True,
        }
    ],
    "bundles": [{"offset": 4, "size": len(BUNDLE), "sha256": hashlib.sha256(BUNDLE).hexdigest()}],
}


def answer(document: bytes, bundles: bytes = b"junk" + BUNDLE) -> loaded.Loaded:
    """What is made of these two memory files."""
    first, second = os.memfd_create("document"), os.memfd_create("bundles")
    try:
        os.write(first, document)
        os.write(second, bundles)
        return loaded.read(first, second)
    finally:
        os.close(first)
        os.close(second)


def descriptors() -> int:
    """How many this process holds."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_good_answer():
    """Its bundle is a sealed copy at offset 0; close gives the memory back."""
    before = descriptors()
    with answer(json.dumps(GOOD).encode()) as result:
        (app,) = result.apps
        assert app.bundle_fd is not None
        assert (app.name, os.fstat(app.bundle_fd).st_size) == ("hello", len(BUNDLE))
        assert os.read(app.bundle_fd, 100) == BUNDLE
        assert fcntl.fcntl(app.bundle_fd, fcntl.F_GET_SEALS) == loaded.SEALS
    assert descriptors() == before


def changed(path: str, value: Any) -> bytes:
    """GOOD with the value at `a.b.0` replaced."""
    document = copy.deepcopy(GOOD)
    *way, last = path.split(".")
    place: Any = document
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step]
    place[int(last) if last.isdigit() else last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("v", 2),
        ("apps", []),
        ("apps", {}),
        ("apps.0", "app"),
        ("apps.0.variable", 1),
        ("apps.0.idl", []),
        ("apps.0.idl", {}),
        ("apps.0.idl", {"metadata": {"id": {"name": 5}}}),
        ("apps.0.idl", {"metadata": "x"}),
        ("apps.0.idl", {"metadata": {"id": "x"}}),
        ("apps.0.image", []),
        ("apps.0.image_files", {"a": 1}),
        ("apps.0.image_files", []),
        ("apps.0.image_folders", ["a"]),
        ("apps.0.image_folders", {"src": "0" * 64}),
        ("apps.0.depends_on", ["not here"]),
        ("apps.0.depends_on", [[]]),
        ("apps.0.bundle", 1),
        ("apps.0.bundle", -1),
        ("apps.0.bundle", True),
        ("apps.0.bundle", "0"),
        ("apps.0.kind", "shell"),
        ("apps.0.kind", []),
        ("apps.0.server", 1),
        ("bundles", [GOOD["bundles"][0]] * 513),
        ("bundles.0", None),
        ("bundles.0.offset", -1),
        ("bundles.0.offset", 1 << 80),
        ("bundles.0.size", 0),
        ("bundles.0.size", loaded.LARGEST_BUNDLE + 1),
        ("bundles.0.size", len(BUNDLE) + 1),
        ("bundles.0.sha256", "0" * 64),
        ("bundles.0.sha256", None),
        ("root", None),
        ("tasks", "work"),
        ("tasks", [1]),
        ("sdk", 2),
        ("error", "text"),
        ("error", {"kind": "import"}),
    ],
)
def test_each_lie_is_refused(path, value):
    """One sentence, no traceback of ours, no descriptor left open."""
    before = descriptors()
    with pytest.raises(UserCodeFailed, match="malformed"):
        answer(changed(path, value))
    assert descriptors() == before


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"v": 1, "v": 1}',
        b'{"v": NaN}',
        b"\xff",
        b"[" * 100_000,
        b'{"v":1' + b"0" * 10_000 + b"}",
        b" " * (loaded.LARGEST_DOCUMENT + 1),
    ],
)
def test_what_is_no_document(document):
    """Cut off, not UTF-8, keys twice, NaN, nested without end, numbers without end, too long."""
    with pytest.raises(UserCodeFailed, match="malformed"):
        answer(document)


def test_too_many_apps_are_no_lie():
    """The number and the most are said, and what to type."""
    document = copy.deepcopy(GOOD)
    document["apps"] *= loaded.MOST_APPS + 1
    with pytest.raises(InvalidInput, match=f"has {len(document['apps'])} apps; at most 64 can be served") as caught:
        answer(json.dumps(document).encode())
    assert "flytectl serve FILE ENV" in caught.value.hint


def test_many_bundles_share_one_limit(monkeypatch):
    """64 bundles of the largest size would be 16 GiB of memory: the limit is for all of them together."""
    monkeypatch.setattr(loaded, "LARGEST_BUNDLE", len(BUNDLE) * 2)
    document = copy.deepcopy(GOOD)
    document["bundles"] *= 3
    with pytest.raises(UserCodeFailed, match="the size of a bundle"):
        answer(json.dumps(document).encode())


LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_json_gives_an_error_of_ours(value):
    """Whatever the document is, the user sees a sentence and never a KeyError of ours."""
    with pytest.raises(FlytedError):
        answer(json.dumps(value).encode())


@given(st.sampled_from(sorted(GOOD)), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_any_value_in_any_place(key, value):
    """The same, one level down."""
    try:
        answer(json.dumps(GOOD | {key: value}).encode()).close()
    except FlytedError:
        return
    assert key in {"root", "sdk", "python", "executable", "tasks"} or value == GOOD[key]


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("unsupported", Unsupported),
        ("no-sdk", SdkMissing),
        ("sdk", SdkUnfit),
        ("missing-module", PackageMissing),
        ("syntax", UserCodeFailed),
        ("new", UserCodeFailed),
    ],
)
def test_errors_become_ours(kind, cls):
    """By their kind; a kind that we do not know is the user's code failing."""
    error = {"error": {"kind": kind, "message": "m", "hint": "h", "traceback": "t", "module": "m"}}
    with pytest.raises(cls) as caught:
        answer(json.dumps(error).encode())
    assert type(caught.value) is cls
    assert (caught.value.message, caught.value.hint) == ("m", "h")
