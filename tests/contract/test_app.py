"""AppSpec: what it refuses by itself, before anybody makes a unit of it."""

from __future__ import annotations

import pytest

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput
from flyted.contract.names import AppKey


def spec(python_env: str) -> AppSpec:
    return AppSpec(AppKey("default", "development", "web"), ("serve",), {}, python_env=python_env)


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
