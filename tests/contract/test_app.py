"""AppSpec: what it refuses by itself, before anybody makes a unit of it."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from flyted.contract.app import AppSpec, from_dict, to_dict
from flyted.contract.errors import InvalidInput
from tests.values import spec


@pytest.mark.parametrize("char", list("$;%:\\\"'`"))
def test_an_environments_path_that_systemd_would_change_is_refused(char: str) -> None:
    """By name of the character, with what to type; not later, by whatever meets it first."""
    with pytest.raises(InvalidInput) as caught:
        spec(python_env=f"/opt/a{char}b")
    assert repr(char) in caught.value.message
    assert "/opt/env" in caught.value.hint


@pytest.mark.parametrize("path", ["env", "./env", "/opt/../root", "/opt/a\nb", "/" + "x" * 1024])
def test_an_environments_path_is_absolute_and_plain(path: str) -> None:
    """No relative path, no way up, no control character, no end of the world."""
    with pytest.raises(InvalidInput):
        spec(python_env=path)


@pytest.mark.parametrize("path", ["", "/opt/env", "/srv/my apps/env-3.12_x", "/opt/größe+1"])
def test_other_paths_pass(path: str) -> None:
    """Blanks and letters of all kinds are no harm."""
    assert spec(python_env=path).python_env == path


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
        with pytest.raises(InvalidInput, match="cannot be opened"):
            spec(open_paths=(path,))
    with pytest.raises(InvalidInput, match="more than 64 open paths"):
        spec(open_paths=tuple(f"/{n}" for n in range(65)))


NUMBERS = {field.name: field.default for field in dataclasses.fields(AppSpec) if field.type in ("int", "float")}
MAY_BE_SMALL = {
    "min_replicas", "max_replicas", "concurrency", "request_rate", "gpu_count", "engine_sleep", "port", "server_port",
    "container_port",
}  # fmt: skip


def both(name: str, value: Any) -> None:
    """Make a spec with this number, and read one from a client."""
    changes: dict[str, Any] = {name: value}
    with pytest.raises(InvalidInput):
        from_dict({**to_dict(spec()), **changes})
    with pytest.raises(InvalidInput):
        dataclasses.replace(spec(), **changes)


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_no_number_is_out_of_range(name: str) -> None:
    """Neither negative, nor larger than any machine, nor infinite; a client of flyted's is not believed either."""
    for value in (-1, -5, 2**63, 10**30):
        both(name, float(value) if isinstance(NUMBERS[name], float) else value)
    if isinstance(NUMBERS[name], float):
        for number in (math.inf, -math.inf, math.nan, 1e-9):
            both(name, number)
    elif name not in MAY_BE_SMALL:
        both(name, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("server_port", 65536), ("server_port", 99999),
        ("port", 65536), ("container_port", 0),
        ("container_port", 65536), ("engine_sleep", 3), ("memory_bytes", 0),
        ("memory_bytes", (1 << 20) - 1), ("shm_bytes", (1 << 60) + 1),
        ("cpu_cores", 4096.1), ("gpu_count", 17), ("min_replicas", 2), ("max_replicas", 65),
        ("max_replicas", 0), ("concurrency", 1_000_001), ("request_rate", 1_000_001), ("start_timeout_s", 7201.0),
        ("start_timeout_s", 0.5), ("scaledown_after_s", 0.0), ("request_timeout_s", 3601.0),
    ],
)  # fmt: skip
def test_a_number_beside_its_range_is_refused(name: str, value: float) -> None:
    """One too many, or one too few."""
    both(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("server_port", 0), ("server_port", 80), ("server_port", 65535), ("port", 1),
        ("engine_sleep", 2),
        ("memory_bytes", 1 << 20), ("memory_bytes", 1 << 60), ("disk_bytes", 0), ("shm_bytes", 0), ("cpu_cores", 0.0),
        ("cpu_cores", 0.001),
        ("max_replicas", 64), ("concurrency", 1), ("request_rate", 1_000_000),
        ("cpu_cores", 4096.0), ("request_timeout_s", 0.0), ("start_timeout_s", 7200.0), ("scaledown_after_s", 1.0),
    ],
)  # fmt: skip
def test_a_number_at_the_end_of_its_range_passes(name: str, value: float) -> None:
    """And 0 where it means none."""
    assert getattr(from_dict({**to_dict(spec()), name: value}), name) == value


def test_a_port_below_1024_needs_egress() -> None:
    """The network with egress opens such ports to its app; without it nobody does."""
    assert spec(port=80).port == 80
    with pytest.raises(InvalidInput, match="port 80 is below 1024, which an app without egress cannot open"):
        spec(port=80, egress=False)
