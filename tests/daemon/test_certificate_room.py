"""All certificates are credentials of HAProxy's unit, which systemd would not start with more than it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure
from flyted.host import ca
from flyted.plan.ingress import certificates
from flyted.plan.ingress.certificates import PAGE, Certificate, that_fit
from flyted.plan.ingress.sites import FILE
from tests.daemon.authority import Authority
from tests.daemon.fake import alone, beside
from tests.daemon.test_domains import HOUSE, WORK, ask, own, signed
from tests.daemon.test_orders import DOMAIN, ONE, TWO, has, later, served, shown


@pytest.mark.parametrize(("size", "fit"), [(100, 250), (3900, 250), (4096, 125), (8100, 125), (60_000, 16)])
def test_there_is_room_for_so_many(size: int, fit: int) -> None:
    """Memory is given in pages; the names of credentials count as well."""
    many = [Certificate(f"n{number:03}", (), b"x" * size) for number in range(300)]
    assert that_fit(many) == tuple(many[:fit])


def test_one_that_is_too_large_keeps_no_other_out() -> None:
    """Each is tried."""
    large, small = (Certificate(name, (), b"x" * size) for name, size in (("large", 1_024_001), ("small", 100)))
    assert that_fit([large, small]) == (small,)


def test_those_of_stopped_apps_make_room_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of apps that serve, and of the domain itself, are shown; it is said what is not."""
    machine = alone(tmp_path, monkeypatch, "one", "two")
    authority = Authority(machine)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        monkeypatch.setattr(certificates, "ROOM", 4 * PAGE)
        for name in ("one", "two"):
            machine.store.want(name, "stopped", 1.0)
        for name in ("aa", "ab"):
            machine.deployed(name)
        await machine.loop.settle()
        await later(lambda: len(authority.orders) == 4)
        await later(lambda: f"ab.{DOMAIN}" in shown(machine))
        assert len(machine.tls.certificates()) == 4
        assert {DOMAIN, f"aa.{DOMAIN}", f"ab.{DOMAIN}"} <= set(shown(machine))
        assert len(machine.tls.left_out()) == 1
        found = await ask(machine, "domain.get", domain=DOMAIN)
        assert found["problem"] == f"the ingress has no room for the certificate of {machine.tls.left_out()[0]}"
        assert "by DNS" in found["hint"]

    beside(machine, story)
    machine.close()


def test_a_domain_for_which_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, and so is a longer certificate of one that is there; both leave all as it was."""
    machine = alone(tmp_path, monkeypatch)
    authority = ca.new_ca(WORK, alone=True)
    long = ca.issue_leaf(authority, WORK, alone=True).pem + authority.cert_pem * 20

    async def story() -> None:
        await own(machine)
        before = await ask(machine, "domain.set", signed(), domain=WORK, certificate=FILE)
        monkeypatch.setattr(certificates, "ROOM", 2 * PAGE)
        with pytest.raises(HostFailure, match="the ingress has no room for another certificate"):
            await own(machine, "apps.example.net")
        with pytest.raises(HostFailure, match="the ingress has no room for another certificate"):
            await ask(machine, "domain.set", long, domain=WORK, certificate=FILE)
        assert await ask(machine, "domain.get", domain=WORK) == before
        assert [site.domain for site in machine.sites.all()] == [HOUSE, WORK]
        assert machine.tls.left_out() == ()

    beside(machine, story)
    machine.close()
