"""When certificates are ordered from an ACME authority: renewals, waits after failures, and an authority's limits."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.acme import LETS_ENCRYPT
from flyted.plan.ingress.orders import (
    AT_A_TIME,
    HOUR,
    MOST_AN_HOUR,
    Order,
    after_the_clock_was_set,
    allowed_at,
    due,
    failed,
    plan_orders,
    wait_s,
    wanted_names,
)
from flyted.plan.ingress.sites import OWN_CA, AcmeSettings, Site

NOW = 1e9
DAY = 86400.0
NAME = "a.apps.example.org"
HTTP, DNS = AcmeSettings("me@example.org", LETS_ENCRYPT), AcmeSettings("me@example.org", LETS_ENCRYPT, dns="hetzner")


def order(name: str = NAME, **more: Any) -> Order:
    return dataclasses.replace(Order(name, "apps.example.org"), **more)


def test_the_names_that_want_a_certificate() -> None:
    """One for each app, or one for all by DNS; what this machine signs is not ordered."""
    sites = [Site("apps.box.lan", OWN_CA, 1.0), Site("x.org", "acme", 2.0, HTTP), Site("y.org", "acme", 3.0, DNS)]
    assert wanted_names(sites, ["a", "b"]) == {"a.x.org": "x.org", "b.x.org": "x.org", "*.y.org": "y.org"}
    assert wanted_names(sites, []) == {"*.y.org": "y.org"}
    sites = [dataclasses.replace(site, api=True) for site in sites]  # its name needs one, too
    assert wanted_names(sites, []) == {"flyted.x.org": "x.org", "*.y.org": "y.org"}


def test_a_first_certificate_is_due_at_once_and_a_renewal_at_two_thirds() -> None:
    """Renewals of many apps do not fall on one moment."""
    assert due(order()) == 0
    dues = [due(order(f"{n}.x.org", begins=NOW, ends=NOW + 90 * DAY)) for n in range(200)]
    assert all(NOW + 58 * DAY <= at <= NOW + 60 * DAY for at in dues)
    assert len({round(at) for at in dues}) > 50
    assert due(order(begins=NOW, ends=NOW + 6 * DAY)) > NOW + 3.8 * DAY


def test_the_waits_after_failures() -> None:
    """They become longer, up to a day, and hold for a renewal too."""
    waits = [wait_s(n) for n in range(1, 12)]
    assert waits[:4] == [300, 1200, 4800, 19200]
    assert waits == sorted(waits)
    assert waits[-1] == DAY
    again = failed(order(), NOW, "why", "hint")
    assert (due(again), again.why, again.hint) == (NOW + 300, "why", "hint")
    late = failed(order(begins=NOW - 89 * DAY, ends=NOW + DAY), NOW, "why", "")
    assert due(late) == NOW + 300


def test_somebody_who_asks_need_not_wait_but_for_the_limit() -> None:
    tried = order(failed=(NOW - 30, NOW - 20))
    assert due(tried) > NOW
    assert due(dataclasses.replace(tried, asked=True)) <= NOW
    often = dataclasses.replace(failed(tried, NOW, "", ""), asked=True)
    assert due(often) == NOW - 30 + HOUR


@given(st.lists(st.tuples(st.floats(0, 7200), st.booleans()), max_size=40))
def test_no_name_fails_more_than_three_times_within_an_hour(steps: list[tuple[float, bool]]) -> None:
    """Whatever is asked for, and when: an order that fails is made only when it is due."""
    known, now, fails = order(), NOW, []
    for seconds, asks in steps:
        now += seconds
        if asks:
            known = dataclasses.replace(known, asked=True)
        if due(known) <= now:
            known = failed(known, now, "", "")
            fails.append(now)
    for first, fourth in zip(fails, fails[MOST_AN_HOUR:], strict=False):
        assert fourth - first >= HOUR - 1e-3


def test_few_orders_at_a_time_and_the_next_moment() -> None:
    """The oldest need first; the rest when one ends; then the moment at which time alone changes something."""
    many = [order(f"{n:02}.x.org") for n in range(50)]
    names, later = plan_orders(many, [], NOW)
    assert (names, later) == (tuple(f"{n:02}.x.org" for n in range(AT_A_TIME)), None)
    assert plan_orders(many, names, NOW) == ((), None)
    assert plan_orders(many, names[1:], NOW) == (("00.x.org",), None)
    renewal = order("r.x.org", begins=NOW, ends=NOW + 90 * DAY)
    assert plan_orders([renewal], [], NOW) == ((), due(renewal))
    assert plan_orders([], [], NOW) == ((), None)


def test_a_clock_that_was_wrong() -> None:
    """Failures of a time that has not come do not count."""
    wrong = order(failed=(NOW + 9e7, NOW + 9e7 + 1, NOW + 9e7 + 2), why="why")
    assert due(wrong) > NOW + DAY
    assert due(after_the_clock_was_set(wrong, NOW)) == 0
    kept = order(failed=(NOW - 5,), why="why", hint="hint")
    assert after_the_clock_was_set(kept, NOW) == kept
    assert allowed_at(kept.failed) == 0


@pytest.mark.parametrize("failures", [0, 1, 30])
def test_what_is_remembered_is_bounded(failures: int) -> None:
    known = order()
    for at in itertools.islice(itertools.count(NOW), failures):
        known = failed(known, at, "", "")
    assert len(known.failed) == min(failures, 10)
