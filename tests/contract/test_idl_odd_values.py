"""Whatever stands in an app's IDL, it is read, or refused with an error of ours."""

from __future__ import annotations

import base64
import copy
import gzip
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.app import from_dict, to_dict
from flyted.contract.errors import FlytedError
from flyted.contract.idl import asks_gpu, runs_sleeper, spec_of
from tests.contract.described import changed

pytestmark = pytest.mark.slow


def _rich() -> dict[str, Any]:
    """A description in which nearly every field is set."""
    parameters = base64.b64encode(gzip.compress(b'{"parameters": [{"name": "a", "type": "string"}]}')).decode()
    idl = changed("timeouts", {"requestTimeout": "5s"})
    idl["metadata"]["labels"] = {"a": "b"}
    container = idl["spec"]["container"]
    container["command"][1:1] = ["--parameters", parameters]
    container |= {"args": ["uvicorn", "m:app", "--workers", "2"], "ports": [{"containerPort": 8080, "name": "http1"}]}
    container["resources"]["limits"] = [{"name": "GPU", "value": "1"}, {"name": "EPHEMERAL_STORAGE", "value": "1Gi"}]
    idl["spec"]["autoscaling"] |= {"scaledownPeriod": "60s", "scalingMetric": {"concurrency": {"targetValue": 1}}}
    idl["spec"]["extendedResources"] = {
        "gpuAccelerator": {"device": "nvidia-l40s", "partitionSize": "1g.5gb"},
        "sharedMemory": {"mountPath": "/dev/shm", "sizeLimit": "64Mi"},
    }
    idl["spec"]["profile"] = {"type": "x", "shortDescription": "y"}
    return idl


def _places(part: object, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [way, *(place for name, each in below for place in _places(each, (*way, name)))]


def _with(idl: Any, place: tuple[str | int, ...], value: object) -> Any:
    if not place:
        return value
    part = copy.copy(idl)
    part[place[0]] = _with(idl[place[0]], place[1:], value)
    return part


ODD: list[Any] = [
    None, [], {}, "", 0, -1, 10**30, 1.5, float("nan"), float("inf"), True, "x", "\ud800", "9" * 5000, "x" * 9000,
    [None], [[]], [{}], ["x"], ["fserve"], ["fserve", "--", "'"], ["fserve", "--parameters"], {"x": 1},
    [{"name": []}], [{"containerPort": "x"}],
]  # fmt: skip


ANYTHING = st.recursive(
    st.sampled_from(ODD) | st.text() | st.integers() | st.floats(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=4,
)


def _read_or_refused(idl: Any) -> None:
    for read in (asks_gpu, runs_sleeper, lambda each: from_dict(to_dict(spec_of(each)))):
        try:
            read(idl)
        except FlytedError as error:
            assert error.code != "internal"


def test_each_field_is_read_or_refused_in_our_words() -> None:
    """Whatever stands in its place: never an exception of Python's, which a client would take for a fault of ours."""
    for place in _places(_rich()):
        for value in ODD:
            _read_or_refused(_with(_rich(), place, value))


@given(place=st.sampled_from(_places(_rich())), value=ANYTHING, other=st.sampled_from(["args", "command", "ports"]))
def test_any_description_is_read_or_refused_in_our_words(
    place: tuple[str | int, ...], value: object, other: str
) -> None:
    """Likewise for values of any form, also where another field is missing."""
    idl = _rich()
    del idl["spec"]["container"][other]
    if place[:3] != ("spec", "container", other):
        _read_or_refused(_with(idl, place, value))
