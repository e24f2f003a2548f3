"""Moments: one form for programs, one for people; from values alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytectl import times


@pytest.fixture
def east(monkeypatch):
    """A zone that is not UTC."""
    monkeypatch.setenv("TZ", "EAST-05:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_json_has_one_form_for_all_of_them():
    """Seconds, fractions, microseconds of a log, however deep; other numbers and texts stay."""
    said = times.for_json(
        {
            "created_at": 1700000000, "updated_at": 1700000000.5, "time": 1_700_000_000_123_456, "revision": 2,
            "image": {"built_at": 1700000001}, "gpu": {"devices": [{"since": 1700000002.25, "bytes": 5}]},
            "requires_auth": True, "ended_at": None, "name": "since",
        }
    )  # fmt: skip
    assert said == {
        "created_at": "2023-11-14T22:13:20.000000Z", "updated_at": "2023-11-14T22:13:20.500000Z",
        "time": "2023-11-14T22:13:20.123456Z", "revision": 2, "image": {"built_at": "2023-11-14T22:13:21.000000Z"},
        "gpu": {"devices": [{"since": "2023-11-14T22:13:22.250000Z", "bytes": 5}]},
        "requires_auth": True, "ended_at": None, "name": "since",
    }  # fmt: skip


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers())
def test_no_number_stops_an_answer(number):
    """What is no moment, and what never was, is null."""
    said = times.for_json({"created_at": number})["created_at"]
    assert said is None or said.endswith("Z")
    assert isinstance(times.for_people(number), str)


def test_people_see_their_zone_and_how_long_ago(east, monkeypatch):
    """Local time with its zone, as journalctl's short-iso writes it."""
    monkeypatch.setattr(time, "time", lambda: 1700000300.0)
    assert times.for_people(1700000000) == "2023-11-15T03:43:20+05:30 (5 min ago)"
    assert times.for_people(1700000300 + 7 * 86400) == "2023-11-22T03:48:20+05:30 (in 7 d)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172800, "2 d"), (1e7, "115 d")],
)
def test_a_span_has_its_largest_unit(seconds, text):
    """One number and one unit."""
    assert times.span(seconds) == text
