"""Base domains whose clients go to another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure, InvalidInput, NotFound
from flyted.plan.ingress.sites import FILE, OWN_CA
from tests.daemon.fake import Machine, alone, beside
from tests.daemon.test_domains import HOUSE, WORK, ask, own, signed


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with an app that runs."""
    return alone(tmp_path, monkeypatch, "one")


def test_a_domain_redirects_to_another_one(machine: Machine) -> None:
    """Its apps' URLs have the other name, its certificate is kept; no redirect leads nowhere, or on to another one."""

    async def story() -> None:
        await own(machine)
        assert machine.config.url_domain == HOUSE
        with pytest.raises(InvalidInput, match=f"apps are not served at '{WORK}'"):
            await ask(machine, "domain.redirect", domain=HOUSE, to=WORK)
        await ask(machine, "domain.set", signed(), domain=WORK, certificate=FILE)
        for to in (HOUSE, machine.config.base_domain):
            with pytest.raises(InvalidInput, match="apps are not served at"):
                await ask(machine, "domain.redirect", domain=HOUSE, to=to)
        found = await ask(machine, "domain.redirect", domain=HOUSE, to=WORK)
        assert (found["redirect"], found["shown"], machine.config.url_domain) == (WORK, False, WORK)
        assert machine.haproxy.state is not None
        assert machine.haproxy.state.redirects == {HOUSE: WORK}
        await ask(machine, "domain.set", domain=HOUSE, certificate=OWN_CA)
        assert [each.redirect for each in machine.sites.all()] == [WORK, ""]
        with pytest.raises(InvalidInput, match=f"{HOUSE} itself redirects to {WORK}"):
            await ask(machine, "domain.redirect", domain=WORK, to=HOUSE)
        with pytest.raises(InvalidInput, match=f"{HOUSE} redirects to {WORK}"):
            await ask(machine, "domain.remove", domain=WORK)
        await ask(machine, "domain.redirect", domain=HOUSE, to="")
        assert machine.config.url_domain == HOUSE
        await ask(machine, "domain.remove", domain=WORK)
        with pytest.raises(NotFound):
            await ask(machine, "domain.redirect", domain=WORK, to="")

    beside(machine, story)
    machine.close()


def test_a_change_that_fails_takes_no_later_redirect_back(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the certificate is as before; what another call has changed meanwhile stays."""

    async def fails() -> None:
        if machine.sites.all()[0].certificate == FILE:  # and not once more, when it is put back
            machine.sites.put(replace(machine.sites.all()[0], redirect=WORK))
        raise HostFailure("the ingress does not answer")

    async def story() -> None:
        await own(machine)
        await ask(machine, "domain.set", signed(), domain=WORK, certificate=FILE)
        monkeypatch.setattr(machine.domains, "_apply", fails)
        with pytest.raises(HostFailure):
            await ask(machine, "domain.set", signed(HOUSE), domain=HOUSE, certificate=FILE)
        assert [(each.certificate, each.redirect) for each in machine.sites.all()] == [(OWN_CA, WORK), (FILE, "")]

    beside(machine, story)
    machine.close()
