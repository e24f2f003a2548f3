"""Orders of certificates when something is in their way: the disk, HAProxy, the clock, many apps, an operator."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure, NotFound
from flyted.daemon.ingress import ordered, site_certificates
from flyted.host.orders import OrderTable
from flyted.plan.facts import UnitEnd
from flyted.plan.ingress.orders import failed, plan_orders
from flyted.plan.ingress.sites import ACME, FILE, OWN_CA
from tests.daemon.authority import DAY, Authority
from tests.daemon.fake import Machine, alone, beside
from tests.daemon.test_domains import ask, signed
from tests.daemon.test_orders import CAA, DOMAIN, ONE, TOKEN, TWO, WITH_DNS, has, kept_again, later, served, shown


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with two apps that run."""
    return alone(tmp_path, monkeypatch, "one", "two")


def test_a_domain_that_goes_while_an_order_is_under_way(machine: Machine) -> None:
    """What comes is not stored: neither a certificate nor a failure of a domain that is not there."""
    authority, unit = Authority(machine), machine.systemd.run_transient

    async def story() -> None:
        signs, go = authority.unit, asyncio.Event()

        async def slow(name: str, properties: dict[str, object], **more: object) -> UnitEnd:
            await go.wait()
            return await signs(name, properties, **more)

        machine.systemd.run_transient = slow  # type: ignore[method-assign]
        await served(machine)
        await asyncio.sleep(1)
        await ask(machine, "domain.remove", domain=DOMAIN)
        go.set()
        await later(lambda: len(authority.orders) == 2)
        await machine.loop.settle()
        assert OrderTable(machine.store.database).all() == {}
        with pytest.raises(NotFound):
            await ask(machine, "domain.get", domain=DOMAIN)

    beside(machine, story)
    machine.systemd.run_transient = unit  # type: ignore[method-assign]
    machine.close()


def test_a_revocation_while_an_order_is_under_way(machine: Machine) -> None:
    """What comes takes the old one's place, and is not revoked itself: its key is new. Nothing is ordered twice."""
    authority = Authority(machine)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        old = {found.chain for name in (ONE, TWO) if (found := machine.acme.kept.certificate(name))}
        go = asyncio.Event()

        async def slow(name: str, properties: dict[str, object], **more: object) -> UnitEnd:
            await go.wait()
            return await authority.unit(name, properties, **more)

        machine.systemd.run_transient = slow  # type: ignore[method-assign]
        await asyncio.sleep(60 * DAY)
        assert len(machine.acme.jobs) == 2, "both are being renewed"
        await ask(machine, "domain.revoke", domain=DOMAIN, name="")
        go.set()
        await later(lambda: set(authority.revoked) == old)
        await asyncio.sleep(DAY)
        assert set(authority.revoked) == old
        assert authority.revoked_while_shown == []
        assert sorted(name for _at, name in authority.orders) == [ONE, ONE, TWO, TWO]
        assert (await ask(machine, "domain.get", domain=DOMAIN))["problem"] == ""

    beside(machine, story)
    machine.close()


def test_failures_of_years_to_come_are_forgotten_at_the_next_start(machine: Machine) -> None:
    """The clock was years ahead, all orders failed, and the machine was restarted with the right time."""
    authority = Authority(machine)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        for _ in range(4):
            stored = machine.acme.kept.stored(ONE, DOMAIN)
            machine.acme.kept.put(failed(stored, machine.clock.time() + 5000 * DAY, "why", ""))
        found = kept_again(machine)
        assert set(plan_orders(found.facts(), [], machine.clock.time() + 70 * DAY)[0]) == {ONE, TWO}

    beside(machine, story)
    assert len(authority.orders) == 2
    machine.close()


def test_a_disk_that_is_full_costs_no_certificate(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used, and not ordered again by this run of flyted."""
    authority = Authority(machine)

    def full(*_words: object) -> None:
        raise HostFailure("no space left on device")

    async def story() -> None:
        monkeypatch.setattr(site_certificates, "keep", full)
        await served(machine)
        await later(has(machine, ONE, TWO))
        await asyncio.sleep(DAY)
        assert len(authority.orders) == 2

    beside(machine, story)
    machine.close()


def test_a_fault_of_ours_is_no_order_without_end(machine: Machine) -> None:
    """It counts as a failure, with its waits."""
    authority = Authority(machine)

    async def broken(*_words: object, **_more: object) -> UnitEnd:
        authority.orders.append((machine.clock.time(), ""))
        raise ZeroDivisionError

    async def story() -> None:
        machine.systemd.run_transient = broken  # type: ignore[method-assign]
        await served(machine)
        await later(lambda: len(authority.orders) >= 4)
        assert authority.orders[2][0] - authority.orders[0][0] >= 300
        assert "internal error in flyted" in (await ask(machine, "domain.get", domain=DOMAIN))["problem"]

    beside(machine, story)
    machine.close()


def test_a_certificate_that_is_old_when_it_comes(machine: Machine) -> None:
    """It is not ordered again at once, and so on for ever."""
    authority = Authority(machine)
    authority.age_s = 80 * DAY

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        began = machine.clock.time()
        await later(lambda: len(authority.orders) >= 6)
        assert machine.clock.time() - began > 3600

    beside(machine, story)
    machine.close()


def test_more_apps_than_there_is_room_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have certificates keep them; of the others it is said why they have none, and what to do."""
    authority = Authority(machine)
    monkeypatch.setattr(ordered, "MOST", 3)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        for name in ("aa", "ab", "ac"):
            machine.deployed(name)
        await machine.loop.settle()
        await later(has(machine, f"aa.{DOMAIN}", ONE, TWO))
        await asyncio.sleep(DAY)
        assert len(authority.orders) == 3
        found = await ask(machine, "domain.get", domain=DOMAIN)
        assert {each["name"] for each in found["orders"] if "there is room for" in each["problem"]} == {
            f"ab.{DOMAIN}", f"ac.{DOMAIN}",
        }  # fmt: skip
        assert "by DNS" in found["hint"]
        assert set(shown(machine)) == {DOMAIN, f"aa.{DOMAIN}", ONE, TWO}

    beside(machine, story)
    machine.close()


def test_a_certificate_of_ones_own_is_shown_until_the_ordered_ones_have_come(machine: Machine) -> None:
    """And while it is good; the operator's key goes when the operator says so, and not before."""
    authority = Authority(machine)
    authority.refuses[ONE] = f"[{ONE}] acme: error: 403 :: {CAA}"

    async def story() -> None:
        own = signed(DOMAIN, days=60)
        await ask(machine, "domain.set", own, domain=DOMAIN, certificate=FILE)
        await served(machine)
        await later(has(machine, TWO))
        assert machine.tls.certificates()[0].pem == own
        assert (await ask(machine, "domain.get", domain=DOMAIN))["given_until"] > 0
        await asyncio.sleep(40 * DAY)
        assert machine.tls.certificates()[0].pem == machine.tls.leaf(DOMAIN)
        assert (await ask(machine, "domain.get", domain=DOMAIN))["given_until"] == 0
        await ask(machine, "domain.set", domain=DOMAIN, certificate=OWN_CA)
        with pytest.raises(NotFound):
            machine.tls.given(DOMAIN)

    beside(machine, story)
    machine.close()


@pytest.mark.parametrize("policy", [OWN_CA, FILE])
def test_a_change_that_fails_takes_no_certificate_along(machine: Machine, policy: str) -> None:
    """What was given before the orders is shown as before, and what was given with the change is not kept."""
    authority = Authority(machine)
    authority.refuses |= {ONE: "no", TWO: "no"}

    async def story() -> None:
        own, other = signed(DOMAIN, days=60), signed(DOMAIN)
        await ask(machine, "domain.set", own, domain=DOMAIN, certificate=FILE)
        await served(machine)
        machine.haproxy.refuses = True
        with pytest.raises(HostFailure):
            await ask(machine, "domain.set", other if policy == FILE else b"", domain=DOMAIN, certificate=policy)
        machine.haproxy.refuses = False
        assert machine.tls.given(DOMAIN).pem == own
        assert (await ask(machine, "domain.get", domain=DOMAIN))["certificate"] == ACME

    beside(machine, story)
    machine.close()


def test_a_certificate_for_all_takes_the_place_of_ones_own(machine: Machine) -> None:
    """Proved by DNS: names show it as soon as it has come."""
    Authority(machine)

    async def story() -> None:
        own = signed(DOMAIN, days=60)
        await ask(machine, "domain.set", own, domain=DOMAIN, certificate=FILE)
        await served(machine, WITH_DNS, TOKEN)
        await later(lambda: machine.tls.certificates()[0].pem != own)
        assert machine.tls.certificates()[0].hosts == (f"*.{DOMAIN}", DOMAIN)
        assert (await ask(machine, "domain.get", domain=DOMAIN))["given_until"] == 0

    beside(machine, story)
    machine.close()


def test_the_apis_name_has_a_certificate_while_it_is_served(machine: Machine) -> None:
    """Before all others, if there is no room for all."""
    Authority(machine)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        await ask(machine, "domain.api", domain=DOMAIN, api=True)
        await later(has(machine, ONE, TWO, f"flyted.{DOMAIN}"))
        assert f"flyted.{DOMAIN}" == next(iter(machine.acme.kept.names.ordered))
        await ask(machine, "domain.api", domain=DOMAIN, api=False)
        await later(has(machine, ONE, TWO))

    beside(machine, story)
    machine.close()
