"""AppSpec: what it refuses by itself, before anybody makes a unit of it."""

from __future__ import annotations

import json

import pytest

from flyted.contract.app import AppSpec, from_dict, to_dict
from flyted.contract.errors import InvalidInput
from flyted.contract.names import AppKey


def spec(python_env: str = "", open_paths: tuple[str, ...] = ()) -> AppSpec:
    key = AppKey("default", "development", "web")
    return AppSpec(key, ("serve",), {}, python_env=python_env, open_paths=open_paths)


@pytest.mark.parametrize("char", list("$;%:\\\"'`"))
def test_an_environments_path_that_systemd_would_change_is_refused(char: str) -> None:
    """By name of the character, with what to type; not later, by whatever meets it first."""
    with pytest.raises(InvalidInput) as caught:
        spec(f"/opt/a{char}b")
    assert repr(char) in caught.value.message
    assert "/opt/env" in caught.value.hint


@pytest.mark.parametrize("path", ["env", "./env", "/opt/../root", "/opt/a\nb", "/" + "x" * 1024])
def test_an_environments_path_is_absolute_and_plain(path: str) -> None:
    """No relative path, no way up, no control character, no end of the world."""
    with pytest.raises(InvalidInput):
        spec(path)


@pytest.mark.parametrize("path", ["", "/opt/env", "/srv/my apps/env-3.12_x", "/opt/größe+1"])
def test_other_paths_pass(path: str) -> None:
    """Blanks and letters of all kinds are no harm."""
    assert spec(path).python_env == path


def test_open_paths_are_plain_paths() -> None:
    """What reaches the ingress's table can end no word there, and be read in one way only."""
    for path in ("/", "/metrics", "/v1/a.b", "/~x/_y"):
        made = spec(open_paths=(path,))
        assert from_dict(json.loads(json.dumps(to_dict(made)))) == made
    for path in (
        "",
        "x",
        "/a/",
        "//",
        "/a//b",
        "/../a",
        "/a/.b",
        "/a b",
        "/a\n",
        "/%61",
        "/a;b",
        "/é",
        "/" + "a" * 256,
    ):
        with pytest.raises(InvalidInput, match="no path that can be opened"):
            spec(open_paths=(path,))
    with pytest.raises(InvalidInput, match="more than 64 open paths"):
        spec(open_paths=tuple(f"/{n}" for n in range(65)))
