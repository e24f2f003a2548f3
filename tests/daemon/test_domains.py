"""The verbs of base domains: what is taken, what the ingress and the vault have then, and who may do it."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.answers.events import Event
from flyted.contract.errors import AlreadyExists, FlytedError, HostFailure, InvalidInput, NotFound
from flyted.daemon.api.actor import Actor, Right
from flyted.daemon.api.verbs import Call
from flyted.daemon.ingress import domains as verbs_of_domains
from flyted.host import ca, network
from flyted.host.sites import Sites
from flyted.plan.ingress.sites import EVERYWHERE, FILE, OWN_CA
from flyted.plan.ingress.state import Listen
from tests.answers import sent
from tests.daemon.clocks import BEGAN
from tests.daemon.fake import Machine, alone, beside

HOUSE, WORK = "apps.box.lan", "apps.example.org"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One on which nobody else listens."""
    return alone(tmp_path, monkeypatch)


async def ask(machine: Machine, verb: str, bulk: bytes = b"", **args: Any) -> dict[str, Any]:
    """One verb, its arguments checked as on the socket."""

    async def nobody(_event: Event) -> None:
        raise AssertionError("no events")

    row = machine.domains.verbs()[verb]
    args |= {"acme": {}} if "acme" in row.args and "acme" not in args else {}
    given = row.check({**args, "bulk": len(bulk)} if row.bulk else args)
    return sent(await row.handler(Call(Actor(os.getuid(), 1), given, bulk, {}, nobody)))


async def own(machine: Machine, domain: str = HOUSE) -> dict[str, Any]:
    """Serve at a domain whose certificate the machine signs."""
    return await ask(machine, "domain.set", domain=domain, certificate=OWN_CA)


def signed(domain: str = WORK, *, days: int = 0) -> bytes:
    """A certificate and key of somebody else, signed so many days ago."""
    now = dt.datetime.fromtimestamp(BEGAN, dt.UTC) - dt.timedelta(days=days)
    return ca.issue_leaf(ca.new_ca(domain, now, alone=True), domain, now, alone=True).pem


def files_with(text: bytes, folder: Path) -> list[Path]:
    """Every file that has it."""
    return [path for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


def test_a_domain_is_served_and_removed(machine: Machine) -> None:
    """Apps, certificate and listeners come and go with it; the machine's own domain stays as it is."""

    async def story() -> None:
        before = machine.config.listen
        done = await own(machine)
        assert (done["domain"], done["certificate"], done["problem"], done["shown"]) == (HOUSE, "own-ca", "", True)
        assert machine.haproxy.state is not None
        assert machine.haproxy.state.domains == {HOUSE: "apps.localhost"}
        assert machine.config.listen.addresses == EVERYWHERE
        (certificate,) = machine.tls.certificates()
        assert certificate.hosts == (f"*.{HOUSE}", HOUSE)
        handed_out = machine.tls._ca_file.with_name("authorities")
        assert [each.name for each in handed_out.iterdir()] == [f"{HOUSE}.pem"]
        assert (handed_out / f"{HOUSE}.pem").read_text() == done["authority_pem"]
        assert machine.haproxy.state.authorities == {f"flyted.{HOUSE}": HOUSE}
        assert ca.fingerprint(certificate.pem) == done["fingerprint"]
        assert machine.haproxy.asked["apply_certificates"] >= 1
        assert await ask(machine, "domain.get", domain=HOUSE) == done
        assert await ask(machine, "domain.list") == {"domains": [done]}
        assert await ask(machine, "domain.remove", domain=HOUSE) == {}
        assert machine.haproxy.state.domains == machine.haproxy.state.authorities == {}
        assert list(handed_out.iterdir()) == []
        assert machine.config.listen == before
        assert machine.tls.certificates() == ()
        assert await ask(machine, "domain.list") == {"domains": []}

    beside(machine, story)
    machine.close()


def test_its_authority_signs_for_nothing_else(machine: Machine) -> None:
    """Whoever trusts it trusts names below the domain alone; that of the machine's own names is another one."""

    async def story() -> None:
        machine.tls.site_pem()
        done = await own(machine)
        authority = machine.tls.authority(HOUSE)
        assert ca.fingerprint(authority.cert_pem) == done["authority"]
        assert done["authority_pem"].encode() == authority.cert_pem
        assert ca.covers(authority, HOUSE)
        assert not ca.covers(authority, "apps.localhost")
        assert not ca.covers(authority, WORK)
        assert not ca.covers(machine.tls.authority("apps.localhost"), HOUSE)
        await ask(machine, "domain.remove", domain=HOUSE)
        assert (await own(machine))["authority"] == done["authority"], "clients trust it still"

    beside(machine, story)
    machine.close()


def test_a_given_certificate_is_kept_sealed_and_goes_with_the_domain(machine: Machine, tmp_path: Path) -> None:
    """Its key is in no file in the clear."""

    async def story() -> None:
        pem = signed()
        done = await ask(machine, "domain.set", pem, domain=WORK, certificate=FILE)
        assert (done["certificate"], done["authority"], done["authority_pem"]) == ("file", "", "")
        key = pem.split(b"\n")[-4]
        assert len(key) > 30
        assert files_with(key, tmp_path) == []
        assert machine.tls.certificates()[0].pem == pem
        again = signed()
        assert (await ask(machine, "domain.set", again, domain=WORK, certificate=FILE))["fingerprint"] != done[
            "fingerprint"
        ]
        assert machine.tls.certificates()[0].pem == again
        kept = machine.vault.count
        await ask(machine, "domain.remove", domain=WORK)
        assert machine.vault.count == kept - 1

    beside(machine, story)
    machine.close()


def test_the_url_of_apps_is_at_the_oldest_domain(machine: Machine) -> None:
    """It changes when the first one comes, and not with the second."""

    async def story() -> None:
        assert machine.config.url_domain == "apps.localhost"
        await own(machine)
        await own(machine, WORK)
        assert machine.config.url_domain == HOUSE
        await ask(machine, "domain.remove", domain=HOUSE)
        assert machine.config.url_domain == WORK
        machine.config.preferred = "apps.localhost"
        assert machine.config.url_domain == "apps.localhost"
        assert (await ask(machine, "domain.get", domain=WORK))["shown"] is False

    beside(machine, story)
    machine.close()


def test_what_cannot_be_taken_changes_nothing(machine: Machine) -> None:
    """Neither names, nor certificates, nor listeners."""

    async def story() -> None:
        await own(machine)
        before = (machine.sites.all(), machine.vault.count, machine.config.listen, machine.haproxy.state)
        for error, domain, certificate, bulk in (
            (InvalidInput, "lan", OWN_CA, b""),
            (InvalidInput, "x.localhost", OWN_CA, b""),
            (AlreadyExists, f"x.{HOUSE}", OWN_CA, b""),
            (InvalidInput, WORK, "acme?", b""),
            (InvalidInput, WORK, FILE, b""),
            (InvalidInput, WORK, FILE, signed("apps.other.org")),
            (InvalidInput, WORK, FILE, signed(days=200)),
            (InvalidInput, WORK, FILE, signed().replace(b"a", b"b")),
        ):
            with pytest.raises(error):
                await ask(machine, "domain.set", bulk, domain=domain, certificate=certificate)
            assert (machine.sites.all(), machine.vault.count, machine.config.listen, machine.haproxy.state) == before
        for verb in ("domain.get", "domain.remove"):
            with pytest.raises(NotFound):
                await ask(machine, verb, domain=WORK)

    beside(machine, story)
    machine.close()


@pytest.mark.parametrize("given", [OWN_CA, FILE])
def test_what_haproxy_refuses_is_not_kept(machine: Machine, given: str) -> None:
    """A new domain is not there then; one that was served is as it was before."""
    bulk = signed() if given == FILE else b""

    async def story() -> None:
        machine.haproxy.refuses = True
        with pytest.raises(HostFailure, match="HAProxy refused"):
            await ask(machine, "domain.set", bulk, domain=WORK, certificate=given)
        assert (machine.sites.all(), machine.config.listen.addresses) == ((), Listen().addresses)
        machine.haproxy.refuses = False
        done = await ask(machine, "domain.set", signed(), domain=WORK, certificate=FILE)
        kept = machine.vault.count
        machine.haproxy.refuses = True
        with pytest.raises(HostFailure, match="HAProxy refused"):
            await ask(machine, "domain.set", bulk, domain=WORK, certificate=given)
        assert await ask(machine, "domain.get", domain=WORK) == done
        assert machine.vault.count - kept <= 2, "an authority that was made stays"

    beside(machine, story)
    machine.close()


def test_another_program_at_the_port(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ingress would lose the one that it has."""

    async def story() -> None:
        monkeypatch.setattr(network, "tcp_sockets", lambda: ("1: 0501A8C0:01BB 00000000:0000 0A", ""))
        with pytest.raises(HostFailure, match="another program listens on port 443"):
            await own(machine)
        assert machine.sites.all() == ()

    beside(machine, story)
    machine.close()


def test_a_certificate_that_ends_soon_is_told(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """Two weeks before, and at its end; one that is good is not."""

    async def story() -> None:
        for days, said in ((10, ""), (80, "ends on"), (89, "ends on")):
            caplog.clear()
            done = await ask(machine, "domain.set", signed(days=days), domain=WORK, certificate=FILE)
            assert said in done["problem"]
            assert bool(said) == bool(done["problem"])
            assert bool(said) == (f"the certificate of {WORK} ends on" in caplog.text)
            due = machine.tls.facts().ends - machine.clock.time()
            assert due > 0

    beside(machine, story)
    machine.close()


def test_a_domain_that_lost_its_certificate_takes_nothing_along(machine: Machine) -> None:
    """The others are served; it says what is wrong with it, and is given another one."""

    async def story() -> None:
        await own(machine)
        await ask(machine, "domain.set", signed(), domain=WORK, certificate=FILE)
        for path in (machine.vault_folder / "secrets").glob("*site-*.age"):
            path.write_bytes(b"broken")
        await machine.tls.renew()
        assert [each.name for each in machine.tls.certificates()] == [HOUSE]
        assert "damaged" in (await ask(machine, "domain.get", domain=WORK))["problem"]
        assert (await ask(machine, "domain.set", signed(), domain=WORK, certificate=FILE))["problem"] == ""
        assert [each.name for each in machine.tls.certificates()] == [HOUSE, WORK]

    beside(machine, story)
    machine.close()


def test_a_preview_changes_nothing(machine: Machine) -> None:
    """It says where the ingress would listen, and which apps ask for no token."""

    async def story() -> None:
        machine.deployed("open", requires_auth=False)
        machine.deployed("guarded", requires_auth=True)
        found = await ask(machine, "domain.preview", domain=HOUSE)
        assert found == {
            "listens": list(machine.config.listen.addresses), "would_listen": list(EVERYWHERE),
            "open_apps": ["open"], "apps": 2, "shown": "apps.localhost", "would_show": HOUSE,
        }  # fmt: skip
        assert machine.sites.all() == ()
        await own(machine)
        for domain in (HOUSE, WORK):
            found = await ask(machine, "domain.preview", domain=domain)
            assert (found["shown"], found["would_show"]) == (HOUSE, HOUSE), domain
        with pytest.raises(FlytedError):
            await ask(machine, "domain.preview", domain="lan")

    beside(machine, story)
    machine.close()


def test_only_root_at_this_machine_changes_domains(machine: Machine) -> None:
    """Everybody who may operate apps may look."""
    rows = machine.domains.verbs()
    assert {name for name, row in rows.items() if row.right is Right.ADMIN} == {
        "domain.set", "domain.api", "domain.redirect", "domain.renew", "domain.revoke", "domain.remove",
    }  # fmt: skip
    assert all(row.sockets == verbs_of_domains._HERE for row in rows.values() if row.right is Right.ADMIN)
    machine.close()


def test_the_api_is_served_where_that_was_said(machine: Machine) -> None:
    """At a name that no app has; another certificate changes nothing about it."""

    async def story() -> None:
        assert (await own(machine))["api"] == ""
        done = await ask(machine, "domain.api", domain=HOUSE, api=True)
        assert done["api"] == f"flyted.{HOUSE}"
        assert (await ask(machine, "domain.set", signed(HOUSE), domain=HOUSE, certificate=FILE))["api"] == done["api"]
        assert machine.haproxy.state is not None
        assert machine.haproxy.state.names == {f"flyted.{HOUSE}": "flyted.localhost"}
        assert Sites(machine.store.database).all()[0].api
        assert (await ask(machine, "domain.api", domain=HOUSE, api=False))["api"] == ""
        assert machine.haproxy.state.names == {}
        with pytest.raises(NotFound):
            await ask(machine, "domain.api", domain=WORK, api=True)
        machine.deployed("flyted")  # by a version that had no such name
        with pytest.raises(AlreadyExists, match="a name of app 'flyted'"):
            await ask(machine, "domain.api", domain=HOUSE, api=True)
        assert machine.haproxy.state.names == {}

    beside(machine, story)


def test_an_api_that_cannot_be_changed_stays_as_it_was(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the call asked for what is so already."""

    async def story() -> None:
        await own(machine)
        await ask(machine, "domain.api", domain=HOUSE, api=True)

        async def fails() -> None:
            raise HostFailure("the disk is full")

        monkeypatch.setattr(machine.loop, "settle", fails)
        for wanted in (True, False):
            with pytest.raises(HostFailure):
                await ask(machine, "domain.api", domain=HOUSE, api=wanted)
            assert machine.sites.all()[0].api
        monkeypatch.undo()

    beside(machine, story)
    machine.close()


def test_domains_are_there_after_a_restart(machine: Machine) -> None:
    """As they were."""

    async def story() -> None:
        await own(machine)
        await own(machine, WORK)
        again = Sites(machine.store.database)
        assert again.all() == machine.sites.all()
        assert [site.domain for site in again.all()] == [HOUSE, WORK]

    beside(machine, story)
    machine.close()
