"""Parameters in Flyte's IDL: which reach an app, and which are refused."""

from __future__ import annotations

import base64
import copy
import gzip
from typing import Any

import pytest

from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.idl import spec_of
from tests.contract.described import IDL
from tests.values import parameters_of


def with_parameter(kind: str) -> tuple[dict[str, Any], str]:
    idl = copy.deepcopy(IDL)
    text = parameters_of({"name": "model", "type": kind, "value": "s3://b/m"})
    idl["spec"]["container"]["command"][1:1] = ["--parameters", text]
    return idl, text


def test_parameters_of_other_kinds_are_refused() -> None:
    """Those of a newer SDK; another app's address is for test_may_call.py."""
    with pytest.raises(Unsupported, match="'model'"):
        spec_of(with_parameter("weather")[0])


def test_fields_of_parameters_that_a_newer_sdk_adds_are_refused() -> None:
    """If they are set: the SDK writes all of them."""
    idl = copy.deepcopy(IDL)
    plain = {"name": "model", "value": "v", "type": "string", "download": False, "env_var": None, "dest": None}
    new = {"name": "other", "value": "v", "cached": False, "owner": None, "tags": []}
    words = idl["spec"]["container"]["command"]
    words[1:1] = ["--parameters", parameters_of(plain, new)]
    spec_of(idl)
    words[2] = parameters_of(plain, {**new, "cached": True})
    with pytest.raises(Unsupported, match="parameter 'other' has a field 'cached' that is not known"):
        spec_of(idl)


@pytest.mark.parametrize("kind", ["string", "file", "directory"])
def test_parameters_reach_the_app(kind: str) -> None:
    """launch gives them to it, at each start."""
    idl, text = with_parameter(kind)
    assert spec_of(idl).command[:3] == ("fserve", "--parameters", text)


def test_a_parameters_bomb_is_small() -> None:
    """Ten megabytes of zeros do not unpack."""
    idl = copy.deepcopy(IDL)
    bomb = base64.b64encode(gzip.compress(b"0" * 10_000_000)).decode()
    idl["spec"]["container"]["command"][1:1] = ["--parameters", bomb]
    with pytest.raises(InvalidInput):
        spec_of(idl)


@pytest.mark.parametrize(
    "words",
    [["report", "--parameters", "month"], ["fserve", "--", "report", "--parameters", "month"]],
    ids=["command", "args"],
)
def test_a_program_has_parameters_of_its_own(words: list[str]) -> None:
    """They are not those of fserve."""
    idl = copy.deepcopy(IDL)
    idl["spec"]["container"] |= {"command": words, "args": []}
    assert spec_of(idl).command == tuple(words)
