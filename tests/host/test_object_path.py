"""The names of units in D-Bus object paths: what is encoded comes back, and what nobody encoded is no unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.host.object_path import unit_of, unit_path

UNITS = "/org/freedesktop/systemd1/unit/"


@given(st.text(min_size=1))
def test_each_name_comes_back(name: str) -> None:
    """Also one with letters of more than one byte."""
    assert unit_of(unit_path(name).decode()) == name


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("flyted-a_b-r1-0.service", "flyted_2da_5fb_2dr1_2d0_2eservice"),
        ("1.mount", "_31_2emount"),
        ("é€.service", "_c3_a9_e2_82_ac_2eservice"),
    ],
)
def test_a_name_is_encoded_as_systemd_does(name: str, path: str) -> None:
    """By bytes; a digit only where it is first."""
    assert unit_path(name).decode() == UNITS + path
    assert unit_of(UNITS + path) == name


@pytest.mark.parametrize(
    "path",
    ["", "/", UNITS, "/org/freedesktop/systemd1/job/7", f"{UNITS}a_", f"{UNITS}a_2", f"{UNITS}a_+1b", f"{UNITS}a_ 1b",
     f"{UNITS}a_2eservice/b", f"{UNITS}a_2G", f"{UNITS}a_2eservice\n"],
)  # fmt: skip
def test_any_other_path_is_no_units(path: str) -> None:
    """Half an escape, and what int() takes for a number, included."""
    assert unit_of(path) == ""
