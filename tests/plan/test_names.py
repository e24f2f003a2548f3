"""The names of apps besides their own: where an app answers, which URL is shown, and whose a name is."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.acme import LETS_ENCRYPT
from flyted.contract.app import AppSpec
from flyted.contract.errors import AlreadyExists
from flyted.plan.facts import ImageFact, Revision, StoredApp
from flyted.plan.ingress.names import check, notes, others, shown
from flyted.plan.ingress.orders import settings_of, wanted_names
from flyted.plan.ingress.sites import OWN_CA, AcmeSettings, Site, check_free
from tests.values import spec

BASE = "apps.localhost"
HOUSE = Site("apps.box.lan", OWN_CA, 1.0)
HTTP = Site("apps.example.org", "acme", 2.0, AcmeSettings("me@example.org", LETS_ENCRYPT))
DNS = Site("apps.example.net", "acme", 3.0, AcmeSettings("me@example.org", LETS_ENCRYPT, dns="hetzner"))
CUSTOM = "chat.example.com"


def app(name: str, **more: Any) -> StoredApp:
    """An app that serves."""
    made = spec(name, **more)
    revision = Revision(1, made, ImageFact("/i"), "f", "ready", "", 1.0)
    return StoredApp(made.key, "started", 1, (revision,), 1.0, 1.0)


def test_where_an_app_answers() -> None:
    """At its subdomain below each base domain, and at its custom domain once certificates are ordered."""
    both = spec("a", subdomain="chat", custom_domain=CUSTOM)
    assert others(spec("a"), BASE, [HOUSE, HTTP]) == ()
    assert others(both, BASE, []) == ("chat.apps.localhost",)
    assert others(both, BASE, [HOUSE]) == ("chat.apps.localhost", "chat.apps.box.lan")
    assert others(both, BASE, [HTTP]) == ("chat.apps.localhost", "chat.apps.example.org", CUSTOM)


def test_which_url_is_shown() -> None:
    """The one that the file names, as far as it works."""
    both = spec("a", subdomain="chat", custom_domain=CUSTOM)
    assert shown("a", None, BASE, []) == shown("a", spec("a"), BASE, [HTTP]) == "a.apps.localhost"
    assert shown("a", both, HOUSE.domain, [HOUSE]) == "chat.apps.box.lan"
    assert shown("a", both, HTTP.domain, [HTTP]) == CUSTOM


def test_a_custom_domain_without_certificates_is_told() -> None:
    (said,) = notes(spec("a", custom_domain=CUSTOM), [HOUSE])
    assert "has no effect before certificates are ordered" in said
    assert list(notes(spec("a", custom_domain=CUSTOM), [HTTP])) == []
    assert list(notes(spec("a", subdomain="chat"), [])) == []


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (spec("a", subdomain="b"), "subdomain='b' is a name of app 'b'"),
        (spec("a", subdomain="chat"), "subdomain='chat' is a name of app 'b'"),
        (spec("chat"), "app 'chat' would have the subdomain of app 'b'"),
        (spec("a", custom_domain=CUSTOM), f"custom_domain='{CUSTOM}' is a name of app 'b'"),
        (spec("a", custom_domain="apps.localhost"), "always means"),
        (spec("a", custom_domain="b.apps.localhost"), "always means"),
        (spec("a", custom_domain="flyted.localhost"), "always means"),
        (spec("a", custom_domain="llm.apps.internal"), "at which apps call each other"),
        (spec("a", custom_domain="apps.internal"), "at which apps call each other"),
        (spec("a", custom_domain="apps.example.org"), "is a name of apps.example.org"),
        (spec("a", custom_domain="b.apps.example.org"), "is a name of apps.example.org"),
        (spec("a", custom_domain="example.org"), "is a name of apps.example.org"),
        (spec("flyted"), "is the name of flyted's API"),
        (spec("a", subdomain="flyted"), "is the name of flyted's API"),
    ],
)
def test_whose_a_name_is(made: AppSpec, said: str) -> None:
    """No name of another app, of the gateway, or of this machine can be claimed."""
    others_there = [app("b", subdomain="chat", custom_domain=CUSTOM)]
    with pytest.raises(AlreadyExists) as caught:
        check(made, others_there, BASE, [HOUSE, HTTP])
    assert said in caught.value.message


def test_an_app_keeps_its_own_names() -> None:
    """A new revision of it claims them again; others get other ones."""
    there = [app("b", subdomain="chat", custom_domain=CUSTOM)]
    check(spec("b", subdomain="chat", custom_domain=CUSTOM), there, BASE, [HTTP])
    check(spec("a", subdomain="talk", custom_domain="talk.example.com"), there, BASE, [HTTP])
    check(spec("b"), there, BASE, [])


def test_a_base_domain_is_no_custom_domain() -> None:
    """Nor below or above one."""
    for domain in (CUSTOM, "example.com", f"x.{CUSTOM}"):
        with pytest.raises(AlreadyExists, match="the custom domain of an app"):
            check_free(domain, BASE, [], [CUSTOM])
    check_free("apps.example.com", BASE, [], [CUSTOM])


def test_certificates_of_names() -> None:
    """A custom domain is proved over HTTP, at the authority of the oldest site that has one."""
    assert wanted_names([HOUSE], ["a", "chat"], [CUSTOM]) == {}
    found = wanted_names([HOUSE, DNS, HTTP], ["a", "chat"], [CUSTOM])
    assert found == {
        CUSTOM: DNS.domain, "*.apps.example.net": DNS.domain, "a.apps.example.org": HTTP.domain,
        "chat.apps.example.org": HTTP.domain,
    }  # fmt: skip
    of_custom, of_site = settings_of(CUSTOM, DNS), settings_of("*.apps.example.net", DNS)
    assert of_custom is not None
    assert of_site is not None
    assert (of_custom.dns, of_site.dns) == ("", "hetzner")
    assert settings_of("a.apps.box.lan", HOUSE) is None
