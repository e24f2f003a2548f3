"""The ingress's certificate, as time goes by and the clock is set, on the machine of ``life.py``."""

from __future__ import annotations

import time

import pytest

from flyted.host import ca
from tests.daemon.life import Life
from tests.daemon.rest import rest

DAY_S = 86400.0


@pytest.fixture(autouse=True)
def _began(life: Life) -> None:
    """flyted has been there for a moment."""
    life.run(1)


def given(life: Life) -> bytes:
    """The certificate that HAProxy uses, which is valid now."""
    begins, ends = (each.timestamp() for each in ca.validity(life.haproxy.certificates[-1]))
    assert begins <= time.time() < ends
    return life.haproxy.certificates[-1]


def test_an_ingress_that_went_on_gets_a_certificate_at_each_start_of_flyted(life: Life) -> None:
    """Of the same authority."""
    first = given(life)
    life.end(killed=True)
    life.start()
    life.run(1)
    assert given(life) != first
    assert len(life.haproxy.certificates) == 2
    assert life.loop.run_until_complete(life.running.credential("flyted-ingress.service", "site.pem")) == given(life)
    rest(life)


def test_a_certificate_is_renewed_when_two_thirds_of_its_life_are_over(life: Life) -> None:
    """And nobody looks before."""
    first = given(life)
    before = life.running.systemd.looks
    life.run(59 * DAY_S)
    assert (given(life), life.running.systemd.looks) == (first, before)
    life.run(2 * DAY_S)
    assert given(life) != first
    life.run(600 * DAY_S)
    assert len(life.haproxy.certificates) == 12
    given(life)


def test_a_machine_that_was_suspended_for_months_renews_it_when_it_is_back(life: Life) -> None:
    """At once."""
    first = given(life)
    life.suspend(80 * DAY_S)
    life.run(1)
    assert given(life) != first


@pytest.mark.parametrize("days", [300.0, -300.0])
def test_the_ingress_gets_another_certificate_when_the_clock_is_set(life: Life, days: float) -> None:
    """At once; not by a minute, nor twice."""
    first = given(life)
    life.set_clock(60.0)
    life.run(1)
    assert given(life) == first
    life.set_clock(days * DAY_S)
    life.run(1)
    assert life.haproxy.certificates[-1] != first
    if days > 0:
        given(life)
    number = len(life.haproxy.certificates)
    life.run(100)
    assert len(life.haproxy.certificates) == number
    life.set_clock(-days * DAY_S)
    life.run(1)
    given(life)
    rest(life)


def test_a_certificate_that_haproxy_refuses_is_tried_again_after_an_hour_or_when_the_clock_is_set(life: Life) -> None:
    """The old one stays in use."""
    first = given(life)
    life.haproxy.refuses = True
    life.run(61 * DAY_S)
    assert life.haproxy.certificates == [first]
    life.haproxy.refuses = False
    life.run(3601)
    second = given(life)
    assert second != first
    life.haproxy.refuses = True
    life.set_clock(100 * DAY_S)
    life.run(60)
    life.haproxy.refuses = False
    life.run(60)
    assert life.haproxy.certificates[-1] == second
    life.set_clock(1.0)
    life.run(1)
    assert given(life) != second
    rest(life)


def test_an_ingress_that_is_down_asks_for_its_certificate_itself(life: Life) -> None:
    """It is not told, and nothing is tried again."""
    life.haproxy.end()
    life.run(61 * DAY_S)
    assert len(life.haproxy.certificates) == 1
    looks = life.running.systemd.looks
    life.run(DAY_S)
    assert life.running.systemd.looks == looks
    rest(life)
