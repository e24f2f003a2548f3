"""Base domains besides the machine's own: which are taken, where the ingress listens for them, what is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flyted.contract.errors import AlreadyExists, FlytedError, InvalidInput
from flyted.contract.names import base_domain
from flyted.plan.ingress.certificates import Certificate, list_text, parse_list
from flyted.plan.ingress.ports import listening
from flyted.plan.ingress.sites import (
    OWN_CA,
    Site,
    addresses,
    apis,
    authorities,
    check_free,
    check_redirect,
    covers,
    domains,
    hosts,
    redirects,
    shown,
)
from flyted.plan.ingress.state import Listen

BASE = "apps.localhost"
HOUSE, WORK = Site("apps.box.lan", OWN_CA, 2.0), Site("apps.example.org", OWN_CA, 1.0)


@pytest.mark.parametrize(
    ("domain", "error"),
    [
        ("apps.localhost", InvalidInput),
        ("x.localhost", InvalidInput),
        ("flyted.localhost", InvalidInput),
        ("apps.example.org.apps.box.lan", AlreadyExists),
        ("x.apps.box.lan", AlreadyExists),
        ("box.lan", AlreadyExists),
        ("apps.internal", AlreadyExists),
        ("x.apps.internal", AlreadyExists),
    ],
)
def test_a_domain_whose_names_others_have_is_refused(domain: str, error: type[FlytedError]) -> None:
    """Else an app could be called like a domain, and have its visitors."""
    with pytest.raises(error):
        check_free(domain, BASE, [HOUSE])


def test_the_machines_own_domain_is_no_other() -> None:
    """Also if it is set to one of the network."""
    with pytest.raises(AlreadyExists, match=r"flyted\.toml"):
        check_free("apps.box.lan", "apps.box.lan", [])


def test_a_domain_may_be_set_again() -> None:
    """With another certificate."""
    check_free(HOUSE.domain, BASE, [HOUSE, WORK])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lan",
        "Apps.box.lan",
        "a b.c",
        "-a.b",
        "a..b",
        "*.b.c",
        "a.b;x",
        "192.168.1.1",
        "apps.192.168.1.1",
        "a." * 90 + "b",
    ],
)
def test_what_is_no_domain(text: str) -> None:
    """It reaches HAProxy's configuration and names of files."""
    with pytest.raises(InvalidInput):
        base_domain(text)


def test_where_the_api_is_served() -> None:
    """At the sites whose operator wants it; elsewhere its name is nobody's."""
    assert apis([HOUSE, WORK]) == {}
    assert apis([HOUSE, replace(WORK, api=True)]) == {"flyted.apps.example.org": "flyted.localhost"}


def test_where_an_authority_is_handed_out() -> None:
    """At the domains that this machine signs for."""
    assert authorities([HOUSE, replace(WORK, certificate="file")]) == {"flyted.apps.box.lan": "apps.box.lan"}


def test_where_the_ingress_listens() -> None:
    """On all addresses for a domain of others, unless the settings say where."""
    loopback = ("127.0.0.1", "::1")
    assert addresses(loopback, []) == loopback
    assert addresses(loopback, [HOUSE]) == ("0.0.0.0", "::")
    assert addresses(("192.0.2.1",), [HOUSE]) == ("192.0.2.1",)


def test_a_certificate_has_to_cover_every_app() -> None:
    """A wildcard is good for one label."""
    assert covers(["apps.example.org", "*.APPS.example.org"], "apps.example.org")
    assert not covers(["apps.example.org", "*.example.org", "a.apps.example.org"], "apps.example.org")


def test_the_oldest_domain_is_shown() -> None:
    """URLs do not change when another one is added."""
    assert shown([], BASE) == BASE
    assert shown([HOUSE, WORK], BASE) == WORK.domain
    assert shown([HOUSE, WORK], BASE, HOUSE.domain) == HOUSE.domain
    assert shown([HOUSE, WORK], BASE, BASE) == BASE
    assert shown([HOUSE], BASE, "gone.example.org") == HOUSE.domain
    assert domains([HOUSE, WORK], BASE) == {HOUSE.domain: BASE, WORK.domain: BASE}


def test_the_list_of_certificates_is_read_back() -> None:
    """HAProxy repeats it, with a first line that names its file."""
    both = [Certificate(site.domain, hosts(site.domain), b"secret") for site in (WORK, HOUSE)]
    text = list_text(both, "/f/")
    assert text == (
        "/f/apps.box.lan *.apps.box.lan apps.box.lan\n/f/apps.example.org *.apps.example.org apps.example.org\n"
    )
    assert parse_list(f"# /run/list\n{text}\n") == {f"/f/{each.name}": each.hosts for each in both}
    assert "secret" not in repr(both)


OURS = "0: 0100007F:01BB 00000000:0000 0A"
NGINX = "1: 0501A8C0:01BB 00000000:0000 0A"


def test_our_own_listeners_are_not_in_the_way() -> None:
    """Another program's are, at any address."""
    everywhere = ("0.0.0.0", "::")
    assert listening(OURS, "", everywhere) == {443}
    assert listening(OURS, "", everywhere, but=Listen()) == set()
    assert listening(f"{OURS}\n{NGINX}", "", everywhere, but=Listen()) == {443}


def test_redirects_lead_to_names_that_are_served() -> None:
    """Not to the domain itself, to one that is not there, or on to a third one; the shown one is served."""
    found = [
        Site("old.org", OWN_CA, 1.0, redirect="new.org"),
        Site("new.org", OWN_CA, 2.0),
        Site("c.org", OWN_CA, 3.0),
    ]
    check_redirect("c.org", "new.org", found)
    check_redirect("old.org", "", found)
    for domain, to, said in (
        ("c.org", "c.org", "not served at"), ("c.org", "x.org", "not served at"),
        ("c.org", "old.org", "itself redirects"),
        ("new.org", "c.org", "old.org redirects to new.org"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=said):
            check_redirect(domain, to, found)
    assert redirects(found) == {"old.org": "new.org"}
    assert shown(found, "apps.localhost") == "new.org"
    assert shown(found, "apps.localhost", "old.org") == "new.org"
    assert shown(found, "apps.localhost", "c.org") == "c.org"
    old, third = found[0], Site("third.org", OWN_CA, 0.0)
    assert shown([*found, third], "apps.localhost", "old.org") == "new.org", "where its clients come to"
    assert redirects([old, third]) == {}, "the other one has gone: a change failed half way"
    assert shown([old, third], "apps.localhost", "old.org") == "old.org"
