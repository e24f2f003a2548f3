"""The whole life of ordered certificates on a machine in memory; an authority of the test's stands for lego's unit."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyted.acme import words
from flyted.contract.acme import LETS_ENCRYPT, STAGING
from flyted.contract.errors import AlreadyExists, InvalidInput, NotFound
from flyted.daemon.ingress.issued import IssuedCertificates
from flyted.daemon.ingress.ordered import OrderedCertificates
from flyted.host.issued import IssuedTable
from flyted.host.orders import OrderTable
from flyted.host.signing import thumbprint
from flyted.plan.ingress.orders import AT_A_TIME, plan_orders
from flyted.plan.ingress.sites import ACME, OWN_CA
from tests.daemon.authority import DAY, Authority
from tests.daemon.fake import Machine, alone, beside
from tests.daemon.test_domains import ask, files_with

DOMAIN, OTHER = "apps.example.org", "apps.example.net"
WITH_HTTP = {"email": "me@example.org", "server": LETS_ENCRYPT, "server_ca": "", "dns": ""}
WITH_DNS = {**WITH_HTTP, "dns": "hetzner"}
TOKEN = b"token-of-the-provider"
ERROR = "urn:ietf:params:acme:error"
CAA = f"{ERROR}:caa :: CAA record prevents it, url: https://x.invalid"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with two apps that run."""
    return alone(tmp_path, monkeypatch, "one", "two")


async def served(machine: Machine, acme: dict[str, str] = WITH_HTTP, bulk: bytes = b"") -> None:
    """Serve at the domain, and wait until nothing is under way."""
    await ask(machine, "domain.set", domain=DOMAIN, certificate=ACME, acme=acme, bulk=bulk)


def shown(machine: Machine) -> dict[str, tuple[str, ...]]:
    """The names of each certificate that the ingress has, by its file."""
    return {each.name: each.hosts for each in machine.tls.certificates()}


def has(machine: Machine, *names: str) -> Callable[[], bool]:
    """Whether the ingress has certificates for exactly these names besides the site's own."""
    return lambda: set(shown(machine)) == {DOMAIN, *names}


async def later(true: Callable[[], bool]) -> None:
    """Waits on the machine's clock, for up to ten days."""
    for wait in (*[0.05] * 200, *[60.0] * 600, *[600.0] * 1400):
        if true():
            return
        await asyncio.sleep(wait)
    raise AssertionError("it has not come")


ONE, TWO, THREE = f"one.{DOMAIN}", f"two.{DOMAIN}", f"three.{DOMAIN}"


def test_each_app_gets_a_certificate(machine: Machine) -> None:
    """Names are proved only while they are ordered; a new app gets one by itself; keys are in no file in the clear."""
    authority = Authority(machine)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        assert {name for _at, name in authority.orders} == {ONE, TWO}
        for job, challenges in zip(authority.jobs, authority.challenges, strict=True):
            assert challenges[job[words.NAME]] == thumbprint(job[words.ACCOUNT].encode())
            assert set(challenges) <= {ONE, TWO}
        assert machine.haproxy.state is not None
        assert machine.haproxy.state.challenges == {}
        assert machine.acme.jobs == {}
        assert shown(machine)[DOMAIN] == (f"*.{DOMAIN}", DOMAIN), "for names that have none of their own"
        machine.deployed("three")
        await machine.loop.settle()
        await later(has(machine, ONE, TWO, THREE))
        found = await ask(machine, "domain.get", domain=DOMAIN)
        assert [(each["issuer"], each["problem"]) for each in found["orders"]] == [("An Authority", "")] * 3
        assert (found["issuer"], found["problem"]) == ("An Authority", "")

    beside(machine, story)
    assert len({job[words.ACCOUNT] for job in authority.jobs}) == 1, "one account"
    for secret in (authority.jobs[0][words.ACCOUNT].splitlines()[1], machine.tls.certificates()[1].pem.decode()[-60:]):
        assert files_with(secret[:40].encode(), machine.vault_folder) == []
    machine.close()


def test_a_failure_is_told_and_repeated_later_and_later(machine: Machine) -> None:
    """In the authority's words; the app has this machine's certificate meanwhile, and others are not held up."""
    authority = Authority(machine)
    authority.refuses[ONE] = f"[{ONE}] acme: error: 403 :: {CAA}"

    async def story() -> None:
        await served(machine)
        await later(lambda: len([at for at, name in authority.orders if name == ONE]) == 4)
        tries = [at for at, name in authority.orders if name == ONE]
        waits = [round(later - at, -2) for at, later in itertools.pairwise(tries)]
        assert waits == [300, 1200, 4800]
        assert set(shown(machine)) == {DOMAIN, TWO}
        found = await ask(machine, "domain.get", domain=DOMAIN)
        assert found["problem"] == f"the authority gives no certificate for {ONE}: CAA record prevents it"
        assert "CAA record of the domain names another authority" in found["hint"]
        del authority.refuses[ONE]
        await ask(machine, "domain.renew", domain=DOMAIN)
        await later(has(machine, ONE, TWO))
        assert (await ask(machine, "domain.get", domain=DOMAIN))["problem"] == ""

    beside(machine, story)
    machine.close()


def test_an_authority_that_has_had_enough_is_left_alone(machine: Machine) -> None:
    """For an hour, whatever the name; after that all goes on."""
    authority = Authority(machine)
    names = [f"app{number}" for number in range(9)]
    for name in names:
        machine.deployed(name)
    limited = {f"{name}.{DOMAIN}": f"{ERROR}:rateLimited :: too many certificates" for name in (*names, "one", "two")}

    async def story() -> None:
        authority.refuses |= limited
        await served(machine)
        await later(lambda: len(authority.orders) > AT_A_TIME)
        first, fifth = authority.orders[0][0], authority.orders[AT_A_TIME][0]
        assert fifth - first >= 3600
        authority.refuses.clear()
        await later(has(machine, *limited))

    beside(machine, story)
    machine.close()


def test_a_certificate_is_renewed_in_time_and_a_failed_renewal_takes_none_away(machine: Machine) -> None:
    """At two thirds of its life; after that the old one stays, until one can be had."""
    authority = Authority(machine, life_s=9 * DAY)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        first = {each.name: each.pem for each in machine.tls.certificates()}
        authority.refuses[ONE] = "error"
        await later(lambda: len(authority.orders) >= 6)
        again = [at for at, name in authority.orders if name == TWO][1]
        assert 5.7 * DAY < again - authority.orders[0][0] <= 6.1 * DAY
        now = {each.name: each.pem for each in machine.tls.certificates()}
        assert (now[ONE] == first[ONE], now[TWO] == first[TWO]) == (True, False)

    beside(machine, story)
    machine.close()


def test_what_is_known_outlives_a_restart(machine: Machine) -> None:
    """Certificates are not ordered again, and failures count."""
    authority = Authority(machine)
    authority.refuses[ONE] = "error"

    async def story() -> None:
        await served(machine)
        await later(has(machine, TWO))
        await later(lambda: len(authority.orders) == 2)
        again = kept_again(machine)
        assert [order.name for order in again.facts() if order.failed] == [ONE]
        assert list(again.certificates(DOMAIN)) == list(machine.acme.kept.certificates(DOMAIN))
        assert plan_orders(again.facts(), [], machine.clock.time())[0] == ()

    beside(machine, story)
    machine.close()


def kept_again(machine: Machine) -> OrderedCertificates:
    """What the next run of flyted finds."""
    database = machine.store.database
    issued = IssuedCertificates(IssuedTable(database), machine.clock)
    return OrderedCertificates(
        machine.vault, machine.sites, OrderTable(database), issued, machine.store.apps, machine.clock
    )


def test_an_app_that_comes_back_finds_its_certificate(machine: Machine) -> None:
    """Its visitors meet it also while the app is stopped; when it is deleted, it is kept until its end."""
    authority = Authority(machine, life_s=3 * DAY)

    async def story() -> None:
        await served(machine)
        await later(has(machine, ONE, TWO))
        machine.store.want("one", "stopped", 1.0)
        await machine.loop.settle()
        assert has(machine, ONE, TWO)()
        machine.store.delete("one")
        await machine.loop.settle()
        await later(has(machine, TWO))
        machine.deployed("one")
        await machine.loop.settle()
        await later(has(machine, ONE, TWO))
        assert len(authority.orders) == 2
        machine.store.delete("one")
        await later(lambda: len(authority.orders) == 4)
        assert kept_again(machine).certificate(ONE) is None, "it ended, and no app has its name"

    beside(machine, story)
    machine.close()


def test_one_certificate_for_all_by_dns(machine: Machine) -> None:
    """The provider's token goes to the unit alone; nothing is answered over HTTP."""
    authority = Authority(machine)

    async def story() -> None:
        with pytest.raises(InvalidInput, match="no credentials for the DNS provider hetzner are stored"):
            await served(machine, WITH_DNS)
        await served(machine, WITH_DNS, TOKEN)
        await later(lambda: len(authority.orders) == 1)
        await later(lambda: machine.tls.certificates()[0].pem.count(b"BEGIN CERTIFICATE") == 1)
        assert shown(machine) == {DOMAIN: (f"*.{DOMAIN}", DOMAIN)}
        (job,) = authority.jobs
        assert job[words.NAME] == f"*.{DOMAIN}"
        assert job[words.VARIABLES] == {"HETZNER_API_KEY": TOKEN.decode()}
        assert authority.challenges == [{}]
        await served(machine, {**WITH_DNS, "email": "you@example.org"})
        assert machine.acme.variables(DOMAIN) == {"HETZNER_API_KEY": TOKEN.decode()}, "the token is kept"
        await ask(machine, "domain.remove", domain=DOMAIN)
        assert machine.acme.variables(DOMAIN) is None

    beside(machine, story)
    assert files_with(TOKEN, machine.vault_folder) == []
    machine.close()


def test_other_names_of_an_app_have_certificates_too(machine: Machine) -> None:
    """Its subdomain at each base domain, and its custom domain; they lead to the app as long as it is there."""
    Authority(machine)
    custom = "chat.example.com"

    async def story() -> None:
        machine.deployed("shop", subdomain="chat", custom_domain=custom)
        await machine.loop.settle()
        assert machine.haproxy.state is not None
        assert machine.haproxy.state.names == {"chat.apps.localhost": "shop.apps.localhost"}
        await served(machine)
        wanted = (ONE, TWO, f"shop.{DOMAIN}", f"chat.{DOMAIN}", custom)
        await later(has(machine, *wanted))
        names = {"chat.apps.localhost", f"chat.{DOMAIN}", custom}
        assert machine.haproxy.state.names == dict.fromkeys(names, "shop.apps.localhost")
        assert shown(machine)[custom] == (custom,)
        with pytest.raises(AlreadyExists, match="the custom domain of an app"):
            await ask(machine, "domain.set", domain="example.com", certificate=OWN_CA)
        machine.store.want("shop", "stopped", 1.0)
        await machine.loop.settle()
        assert has(machine, *wanted)()
        assert machine.haproxy.state.names.keys() == names, "its visitors are told that it is stopped"
        machine.store.delete("shop")
        await machine.loop.settle()
        assert machine.haproxy.state.names == {}
        await later(has(machine, ONE, TWO))

    beside(machine, story)
    machine.close()


def test_an_authority_that_gives_what_was_not_asked_for(machine: Machine) -> None:
    """A certificate for another name is not used."""
    authority = Authority(machine)
    authority.other_name = "evil.example"

    async def story() -> None:
        await served(machine)
        await later(lambda: len(authority.orders) == 2)
        await machine.loop.settle()
        assert set(shown(machine)) == {DOMAIN}
        found = await ask(machine, "domain.get", domain=DOMAIN)
        assert "gave a certificate for evil.example instead of" in found["problem"]

    beside(machine, story)
    machine.close()


def test_another_authority_takes_over(machine: Machine) -> None:
    """As after a trial: all certificates are ordered anew, and those that there are stay until then."""
    authority = Authority(machine)

    async def story() -> None:
        await served(machine, {**WITH_HTTP, "server": STAGING})
        await later(has(machine, ONE, TWO))
        first = {each.name: each.pem for each in machine.tls.certificates()}
        authority.refuses[ONE] = "error"
        await served(machine)
        await later(lambda: len(authority.orders) == 4)
        await machine.loop.settle()
        now = {each.name: each.pem for each in machine.tls.certificates()}
        assert (now[ONE] == first[ONE], now[TWO] == first[TWO]) == (True, False)
        assert {job[words.SERVER] for job in authority.jobs[2:]} == {LETS_ENCRYPT}

    beside(machine, story)
    machine.close()


def test_the_domains_end(machine: Machine) -> None:
    """With it, or with another kind of certificate, keys and certificates go; other domains keep theirs."""
    authority = Authority(machine)

    async def story() -> None:
        await served(machine)
        await ask(machine, "domain.set", domain=OTHER, certificate=ACME, acme=WITH_HTTP)
        await later(lambda: len(machine.tls.certificates()) == 6)
        await ask(machine, "domain.set", domain=DOMAIN, certificate=OWN_CA)
        await later(lambda: set(shown(machine)) == {DOMAIN, OTHER, f"one.{OTHER}", f"two.{OTHER}"})
        await ask(machine, "domain.remove", domain=OTHER)
        await ask(machine, "domain.remove", domain=DOMAIN)
        assert machine.tls.certificates() == ()
        with pytest.raises(NotFound):
            await ask(machine, "domain.renew", domain=DOMAIN)
        assert len(authority.orders) == 4

    beside(machine, story)
    machine.close()


@pytest.mark.parametrize(
    ("domain", "acme", "said"),
    [
        ("apps.box.lan", WITH_HTTP, "such names exist in a house only"),
        (DOMAIN, {**WITH_HTTP, "email": "nobody"}, "is not an e-mail address"),
        (DOMAIN, {**WITH_HTTP, "email": "a@b.c\n--x"}, "is not an e-mail address"),
        (DOMAIN, {**WITH_HTTP, "server": "http://x.org/dir"}, "is not the address of an ACME directory"),
        (DOMAIN, {**WITH_HTTP, "dns": "../x"}, "is not a DNS provider"),
        (DOMAIN, {**WITH_HTTP, "server_ca": "x"}, "not one in PEM form"),
        (DOMAIN, {"email": "a@b.org"}, "takes the texts"),
    ],
)
def test_what_cannot_be_ordered(machine: Machine, domain: str, acme: dict[str, Any], said: str) -> None:
    """It changes nothing."""

    async def story() -> None:
        with pytest.raises(InvalidInput, match=said):
            await ask(machine, "domain.set", domain=domain, certificate=ACME, acme=acme)
        assert await ask(machine, "domain.list") == {"domains": []}

    beside(machine, story)
    machine.close()
