"""When authorities are asked to revoke certificates, and which."""

from __future__ import annotations

from dataclasses import replace

from flyted.contract.acme import LETS_ENCRYPT
from flyted.plan.actions import OrderCertificate, RevokeCertificate
from flyted.plan.ingress.orders import AT_A_TIME, HOUR, Order
from flyted.plan.ingress.revocations import (
    REVOKED,
    WANTED,
    Issued,
    after_the_clock_was_set,
    chosen,
    failed,
    plan_revocations,
    wanted,
)
from flyted.plan.ingress.sites import AcmeSettings
from flyted.plan.upkeep import UpkeepPlan, plan_upkeep
from flyted.plan.upkeep_facts import UpkeepFacts

NOW = 1_000_000.0
ONE = Issued("aa", "one.example.org", "example.org", AcmeSettings("me@example.org", LETS_ENCRYPT), NOW + 9)


def test_it_is_asked_at_once_and_then_later_and_later() -> None:
    """Five minutes after the first time, twenty after the second; not more than three times within an hour."""
    assert plan_revocations([ONE], [], NOW) == (("aa",), None)
    once = failed(ONE, NOW, "down", "wait")
    assert (once.why, once.hint) == ("down", "wait")
    assert plan_revocations([once], [], NOW) == ((), NOW + 300)
    twice = failed(once, NOW, "", "")
    assert plan_revocations([twice], [], NOW) == ((), NOW + 1200)
    assert plan_revocations([wanted(twice)], [], NOW) == (("aa",), None)
    assert plan_revocations([wanted(failed(twice, NOW, "", ""))], [], NOW) == ((), NOW + HOUR)
    assert plan_revocations([replace(ONE, not_before=NOW + 7)], [], NOW) == ((), NOW + 7)
    assert after_the_clock_was_set(once, NOW - 1) == replace(once, failed=())


def test_a_few_at_a_time() -> None:
    """Those that are under way count."""
    many = [replace(ONE, fingerprint=str(number)) for number in range(9)]
    assert plan_revocations(many, ["0"], NOW)[0] == ("1", "2", "3")
    assert plan_revocations(many, [str(number) for number in range(AT_A_TIME)], NOW) == ((), None)
    facts = UpkeepFacts(NOW, revocable=(ONE,))
    assert plan_upkeep(facts) == UpkeepPlan((RevokeCertificate("aa"),))
    assert plan_upkeep(replace(facts, under_way=frozenset({RevokeCertificate("aa")}))) == UpkeepPlan()


def test_what_somebody_wants_to_have_revoked() -> None:
    """Also what was replaced long ago; not again what was ordered in place of one that is not revoked yet."""
    old, new, other = ONE, replace(ONE, fingerprint="bb"), replace(ONE, fingerprint="cc", name="two.example.org")
    assert chosen([old, new, other], "") == (old, new, other)
    assert chosen([old, new, other], ONE.name) == (old, new)
    assert chosen([replace(old, revoke=WANTED), new, other], "") == (replace(old, revoke=WANTED), other)
    assert chosen([replace(old, revoke=WANTED), new], ONE.name) == (replace(old, revoke=WANTED), new)
    assert chosen([replace(old, revoke=REVOKED), new, other], "") == (new, other)
    assert chosen([old, new, other], "three.example.org") == ()


def test_another_certificate_is_ordered_at_once() -> None:
    """Unless orders fail: the authority's limits hold."""
    order = Order("one.example.org", "example.org", LETS_ENCRYPT, NOW - 100, NOW + 100_000, ordered_at=NOW)
    for found, actions in (
        (order, ()), (replace(order, revoke=True), (OrderCertificate(order.name),)),
        (replace(order, revoke=True, failed=(NOW,)), ()),
    ):  # fmt: skip
        assert plan_upkeep(UpkeepFacts(NOW, orders=(found,))).actions == actions
