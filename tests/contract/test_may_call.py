"""The apps that an app names to call them, in Flyte's IDL and besides."""

from __future__ import annotations

import base64
import copy
import gzip
import json
from typing import Any

import pytest

from flyted.contract.app import MAX_CALLS, from_dict, to_dict
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.idl import spec_of
from tests.contract.described import IDL


def with_endpoint(value: str) -> dict[str, Any]:
    """An app with one parameter."""
    idl = copy.deepcopy(IDL)
    text = json.dumps({"parameters": [{"name": "model", "type": "app_endpoint", "value": value}]})
    idl["spec"]["container"]["command"][1:1] = [
        "--parameters",
        base64.b64encode(gzip.compress(text.encode())).decode(),
    ]
    return idl


def test_an_app_may_call_those_in_its_parameters() -> None:
    """And those that are given besides, each once; itself it knows."""
    value = json.dumps({"app_name": "llm", "public": False, "type": "string"})
    assert spec_of(with_endpoint(value)).calls == ("llm",)
    also = spec_of(with_endpoint(value), calls=["llm", "embeddings", "authenticated-api"])
    assert also.calls == ("embeddings", "llm")
    assert from_dict(to_dict(also)) == also


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (json.dumps({"app_name": "llm", "public": True}), "leave public=True out"),
        ("s3://b/m", "not the address of an app"),
        ("[" * 100_000, "not the address of an app"),
        (json.dumps({"app_name": 3}), "not the address of an app"),
        ("[]", "not the address of an app"),
        (json.dumps({"app_name": "llm", "project": "other"}), "has a field 'project' that is not known"),
    ],
)
def test_addresses_that_are_none_are_refused(value: str, why: str) -> None:
    """A public one is for browsers, and flyted does not know here which it is."""
    with pytest.raises(Unsupported, match=f"'model'.*{why}"):
        spec_of(with_endpoint(value))


@pytest.mark.parametrize("name", ["LLM", "a.b", "project/domain/app", "-x", "", "a" * 64, "a\n"])
def test_an_app_may_call_names_only(name: str) -> None:
    """Of its own project and domain."""
    with pytest.raises(InvalidInput, match="may call"):
        spec_of(IDL, calls=[name])


def test_an_app_may_call_so_many() -> None:
    """More are refused by number."""
    names = [f"a{number}" for number in range(MAX_CALLS + 1)]
    assert len(spec_of(IDL, calls=names[:-1]).calls) == MAX_CALLS
    with pytest.raises(InvalidInput, match=f"at most {MAX_CALLS} apps"):
        spec_of(IDL, calls=names)
