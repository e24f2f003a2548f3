"""Parameters with which no app could start are refused before anything is changed, by their names."""

from __future__ import annotations

import copy
import secrets
from typing import Any

import pytest

from flyted.contract.errors import FlytedError
from flyted.contract.idl import spec_of
from tests.contract.described import IDL
from tests.values import parameters_of

A = {"name": "a", "value": "x"}


def with_parameters(*items: dict[str, Any]) -> dict[str, Any]:
    idl = copy.deepcopy(IDL)
    idl["spec"]["container"]["command"][1:1] = ["--parameters", parameters_of(*items)]
    return idl


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([{**A, "env_var": "PATH"}], "parameter 'a': environment variable 'PATH' may not be set"),
        ([{**A, "env_var": "LD_PRELOAD"}], "parameter 'a': environment variable 'LD_PRELOAD'"),
        ([{**A, "env_var": "A B"}], "parameter 'a': environment variable 'A B' is not valid"),
        ([{**A, "env_var": 5}], "parameter 'a': environment variable"),
        ([A, {**A, "value": "y"}], "has two parameters 'a'"),
        ([{**A, "env_var": "V"}, {**A, "name": "b", "env_var": "V"}], "two parameters .* set the variable V"),
        ([{"name": "", "value": "x"}], "a parameter has no name"),
        ([{"name": "a", "value": "x\0y"}], "parameter 'a' has no value that a program can be given"),
        ([{"name": "a", "value": 5}], "parameter 'a' has no value that a program can be given: 5"),
        ([{"name": "a", "value": "", "type": "file"}], "parameter 'a' names no file"),
        ([{"name": "a", "value": "", "type": "directory"}], "parameter 'a' names no directory"),
        ([{"name": "a", "value": '{"app_name": ""}', "type": "app_endpoint"}], "'a' is not the address of an app"),
        (
            [{"name": "a", "value": '{"app_name": "authenticated-api"}', "type": "app_endpoint"}],
            "parameter 'a' is the address of the app itself",
        ),
        ([{"name": "a", "value": "y" * 300_000}], "longer than 256 KiB together"),
        ([{"name": "a", "value": secrets.token_hex(16_384)}], "too long: together at most some 8192 characters"),
    ],
)
def test_parameters_that_cannot_be(items: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(FlytedError, match=said) as raised:
        spec_of(with_parameters(*items))
    assert raised.value.message


def test_parameters_that_can_be() -> None:
    """An empty text, one with newlines, a variable each, a path, an address."""
    found = [
        {**A, "value": "", "env_var": "V"}, {"name": "b", "value": "1\n2", "env_var": "W"},
        {"name": "c", "value": "/srv/x", "type": "file"},
        {"name": "d", "value": '{"app_name": "other"}', "type": "app_endpoint"},
    ]  # fmt: skip
    assert spec_of(with_parameters(*found)).calls == ("other",)
