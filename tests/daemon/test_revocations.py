"""Certificates that are revoked, on a machine in memory: none that is shown, none forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyted.acme import words
from flyted.contract.errors import HostFailure, IngressDown, InvalidInput, NotFound
from flyted.daemon.ingress import site_certificates
from flyted.daemon.ingress.acme import account_name
from flyted.host.given_certificate import Given
from flyted.host.issued import IssuedTable
from flyted.plan.ingress.revocations import REVOKED, WANTED
from flyted.plan.ingress.sites import ACME, OWN_CA, AcmeSettings
from tests.daemon.authority import DAY, Authority
from tests.daemon.fake import Machine, alone, beside
from tests.daemon.test_domains import ask
from tests.daemon.test_orders import DOMAIN, ERROR, ONE, TWO, WITH_HTTP, has, kept_again, later, served

BUSY = f"{ERROR}:serverInternal :: busy"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with two apps that run."""
    return alone(tmp_path, monkeypatch, "one", "two")


def current(machine: Machine, name: str) -> Given:
    """The certificate of a name."""
    found = machine.acme.kept.certificate(name)
    assert found is not None
    return found


async def wanted(machine: Machine, name: str = "") -> dict[str, str]:
    """Have certificates revoked: the names of those, and what each waits for."""
    return told(await ask(machine, "domain.revoke", domain=DOMAIN, name=name))


def told(found: dict[str, Any]) -> dict[str, str]:
    """The same, of an answer."""
    return {each["name"]: each["waits_for"] for each in found["revocations"]}


def in_state(machine: Machine, state: str) -> set[str]:
    """The names of those that the next run of flyted would find so."""
    return {each.name for each in IssuedTable(machine.store.database).all().values() if each.revoke == state}


def test_a_certificate_is_revoked_once_another_one_is_shown(machine: Machine) -> None:
    """The one that is meant; with a new key; also if the first order fails, or flyted is restarted meanwhile."""
    authority = Authority(machine)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        old, other = current(machine, ONE), current(machine, TWO)
        with pytest.raises(NotFound, match="no authority has given a certificate for 'x'"):
            await wanted(machine, "x")
        authority.refuses[ONE] = "down"
        assert await wanted(machine, ONE) == {ONE: "certificate"}
        await later(lambda: bool(machine.acme.kept.stored(ONE, DOMAIN).failed))
        assert [order.name for order in kept_again(machine).facts() if order.revoke] == [ONE]
        assert (current(machine, ONE), authority.revoked) == (old, [])
        assert (await ask(machine, "domain.get", domain=DOMAIN))["problem"] != ""
        del authority.refuses[ONE]
        await later(lambda: bool(authority.revoked))
        assert authority.revoked == [old.chain]
        assert authority.revoked_while_shown == []
        assert "PRIVATE KEY" not in old.chain
        assert current(machine, ONE) != old
        assert current(machine, TWO) == other
        await later(lambda: in_state(machine, WANTED) == set())
        assert told(await ask(machine, "domain.get", domain=DOMAIN)) == {}

    beside(machine, story)
    machine.close()


def test_those_of_apps_that_are_stopped_or_deleted_too(machine: Machine) -> None:
    """Visitors of a stopped app meet a new one; of a deleted one, nothing is kept."""
    authority = Authority(machine)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        old = {current(machine, ONE).chain, current(machine, TWO).chain}
        machine.store.want("one", "stopped", 1.0)
        machine.store.delete("two")
        await machine.loop.settle()
        assert set(await wanted(machine)) == {ONE, TWO}
        await later(lambda: in_state(machine, REVOKED) == {ONE, TWO})
        assert set(authority.revoked) == old
        assert authority.revoked_while_shown == []
        assert [name for _at, name in authority.orders] == [ONE, TWO, ONE]
        assert has(machine, ONE)()
        assert kept_again(machine).certificate(TWO) is None

    beside(machine, story)
    machine.close()


def test_one_that_was_renewed_is_revoked_too(machine: Machine) -> None:
    """A stolen backup may have its key; it is good for a third of its life after its renewal."""
    authority = Authority(machine, life_s=9 * DAY)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        old = current(machine, ONE)
        await later(lambda: current(machine, ONE) != old)
        new = current(machine, ONE)
        await wanted(machine, ONE)
        await later(lambda: len(authority.revoked) == 2)
        assert set(authority.revoked) == {old.chain, new.chain}

    beside(machine, story)
    machine.close()


def test_whoever_asks_twice_loses_nothing(machine: Machine) -> None:
    """What was ordered in place of one that is not revoked yet is kept, unless it is named."""
    authority = Authority(machine)
    authority.keeps = BUSY

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        for _ in range(4):
            await wanted(machine)
            await later(lambda: len(authority.orders) == 4)
            await machine.loop.settle()
        assert len(authority.orders) == 4
        await wanted(machine, ONE)
        await later(lambda: len(authority.orders) == 5)

    beside(machine, story)
    machine.close()


@pytest.mark.parametrize("how", ["removed", "own-ca"])
def test_a_domain_that_goes_meanwhile(machine: Machine, how: str) -> None:
    """What an authority has not revoked yet is revoked all the same; 'domain get' or doctor tells of it."""
    authority = Authority(machine)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        old = current(machine, ONE)
        authority.refuses[ONE] = "down"
        authority.keeps = BUSY
        await wanted(machine, ONE)
        await later(lambda: bool(machine.acme.kept.stored(ONE, DOMAIN).failed))
        if how == "removed":
            await ask(machine, "domain.remove", domain=DOMAIN)
        else:
            await ask(machine, "domain.set", domain=DOMAIN, certificate=OWN_CA)
        await later(lambda: bool(machine.acme.kept.issued.wanted()[0].failed))
        why = f"the old certificate of {ONE} is not revoked: busy"
        left = machine.domains.statuses.left_over()
        assert [each.problem for each in left] == ([why] if how == "removed" else [])
        if how == "own-ca":
            found = await ask(machine, "domain.get", domain=DOMAIN)
            assert (found["problem"], "journalctl" in found["hint"]) == (why, True)
            assert set(await wanted(machine)) == {ONE, TWO}
        authority.keeps = ""
        await later(lambda: in_state(machine, WANTED) == set())
        assert old.chain in authority.revoked

    beside(machine, story)
    machine.close()


def test_what_the_authority_does_not_revoke_is_tried_again(machine: Machine) -> None:
    """Later and later, at once if somebody asks, and not beyond its end; one that is revoked already is done with."""
    authority = Authority(machine, life_s=5 * DAY)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        authority.keeps = BUSY
        await wanted(machine, ONE)
        await later(lambda: bool(authority.asked_to_revoke))
        found = await ask(machine, "domain.get", domain=DOMAIN)
        assert told(found) == {ONE: "authority"}
        assert found["problem"] == f"the old certificate of {ONE} is not revoked: busy"
        before = len(authority.asked_to_revoke)
        await machine.loop.settle()
        assert len(authority.asked_to_revoke) == before
        await ask(machine, "domain.renew", domain=DOMAIN)
        await later(lambda: len(authority.asked_to_revoke) > before)
        authority.keeps = f"{ERROR}:alreadyRevoked :: it is"
        await later(lambda: in_state(machine, REVOKED) == {ONE})
        authority.keeps = f"{ERROR}:rateLimited :: too many requests"
        before = len(authority.asked_to_revoke)
        await wanted(machine, TWO)
        await later(lambda: in_state(machine, WANTED) == set())
        assert authority.revoked == []
        assert 2 < len(authority.asked_to_revoke) - before < 20
        assert TWO not in in_state(machine, REVOKED), "it has ended"

    beside(machine, story)
    machine.close()


def test_a_clock_that_is_wrong_takes_no_wish_away(machine: Machine) -> None:
    """The authority is asked even when the certificate seems to have ended."""
    authority = Authority(machine)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        authority.refuses[ONE] = "down"
        await wanted(machine, ONE)
        await ask(machine, "domain.remove", domain=DOMAIN)
        right = machine.clock.time
        machine.clock.time = lambda: right() + 365 * DAY
        machine.clock.was_set()
        await later(lambda: in_state(machine, REVOKED) == {ONE})
        assert len(authority.revoked) == 1

    beside(machine, story)
    machine.close()


def test_a_new_certificate_that_is_not_on_disk_does_not_count(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart flyted would show the old one; the new one is stored once there is room."""
    authority, keep = Authority(machine), site_certificates.keep

    def full(*_words: object) -> None:
        raise HostFailure("no space left")

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        old = current(machine, ONE)
        monkeypatch.setattr(site_certificates, "keep", full)
        await wanted(machine, ONE)
        await later(lambda: bool(machine.acme.kept.issued.wanted()[0].failed))
        assert authority.revoked == []
        assert machine.acme.kept.issued.wanted()[0].why == "no space left"
        monkeypatch.setattr(site_certificates, "keep", keep)
        await later(lambda: in_state(machine, REVOKED) == {ONE})
        assert authority.revoked == [old.chain]
        assert kept_again(machine).certificate(ONE) == current(machine, ONE)
        assert len(authority.orders) == 3

    beside(machine, story)
    machine.close()


def test_an_ingress_that_takes_nothing_new_shows_the_old_one(machine: Machine) -> None:
    """So it is not revoked, until the ingress takes the new one; a domain's end counts no more."""
    authority = Authority(machine)

    async def down(*_words: object) -> None:
        raise IngressDown("it does not answer")

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        machine.haproxy.apply_certificates = down  # type: ignore[method-assign]
        await wanted(machine, ONE)
        await later(lambda: len(authority.orders) == 3)
        await machine.loop.settle()
        assert told(await ask(machine, "domain.get", domain=DOMAIN)) == {ONE: "ingress"}
        await ask(machine, "domain.remove", domain=DOMAIN)
        await machine.loop.settle()
        assert authority.revoked == []
        machine.haproxy.apply_certificates = authority.apply  # type: ignore[method-assign]
        await later(lambda: in_state(machine, REVOKED) == {ONE})
        assert authority.revoked_while_shown == []

    beside(machine, story)
    machine.close()


def test_a_revoked_certificate_that_a_backup_brings_back_is_not_shown(machine: Machine) -> None:
    """Another one is ordered."""
    authority = Authority(machine)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        old = current(machine, ONE)
        await wanted(machine, ONE)
        await later(lambda: in_state(machine, REVOKED) == {ONE})
        site_certificates.keep(machine.vault, ONE, old)
        again = kept_again(machine)
        assert again.certificate(ONE) is None
        assert [order.name for order in again.facts() if not order.ends] == [ONE]
        assert len(authority.orders) == 3

    beside(machine, story)
    machine.close()


def test_the_account_that_ordered_it_revokes_it(machine: Machine) -> None:
    """Also after another one has taken over; where its key is lost, flyted says so."""
    authority = Authority(machine)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        await ask(machine, "domain.set", domain=DOMAIN, certificate=ACME, acme=WITH_HTTP | {"email": "b@example.org"})
        await wanted(machine, ONE)
        await later(lambda: in_state(machine, REVOKED) == {ONE})
        assert authority.asked_to_revoke[-1][words.EMAIL] == "me@example.org"
        machine.vault.delete_internal(account_name(AcmeSettings(**WITH_HTTP)))
        await wanted(machine, TWO)
        await later(lambda: bool(machine.acme.kept.issued.wanted()[0].failed))
        assert "the key of the account that ordered it is lost" in machine.acme.kept.issued.wanted()[0].why

    beside(machine, story)
    machine.close()


def test_only_ordered_certificates_can_be_revoked(machine: Machine) -> None:
    """One that this machine signed is withdrawn by removing its authority from clients."""

    async def story() -> None:
        await ask(machine, "domain.set", domain=DOMAIN, certificate=OWN_CA)
        with pytest.raises(InvalidInput, match="is not ordered from an authority"):
            await wanted(machine)

    beside(machine, story)
    machine.close()
