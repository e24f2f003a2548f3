"""Logins of browsers: what a code is good for, where its cookie counts, when both end."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from flyted.contract import client
from flyted.contract.errors import InvalidInput, NotFound, PermissionRefused, Unauthenticated
from flyted.daemon.access import login
from flyted.daemon.access.login import MOST_CODES
from flyted.daemon.api.verbs import Right
from tests.daemon.token_harness import BOB, CAROL, BothSockets, Box, link, logged_in, redeem


def test_a_login_reads_the_pages_and_opens_an_app(box: Box) -> None:
    """From the link to the cookie of the pages, and from there to the cookie of an app; each for its place only."""
    pages = box.tokens.owner(redeem(box, link(box)))
    assert (pages.uid, pages.rights) == (1001, frozenset({Right.READ}))
    assert box.wanted() == {}, "the cookie of the pages opens no app"
    passed = box.as_actor(pages, "login.pass", app_id="web.apps.localhost")
    assert passed["url"] == "https://web.apps.localhost:8443/.flyted/session"
    cookie = box.tokens.owner(redeem(box, passed["code"], "web"))
    assert (cookie.uid, cookie.rights) == (1001, frozenset())
    (value,) = box.wanted().values()
    assert value.split(" ")[1:] == ["web", "bob"]


def test_a_code_works_once(box: Box) -> None:
    """Also when two browsers have the link."""
    code = link(box)
    redeem(box, code)
    with pytest.raises(Unauthenticated, match="used already"):
        redeem(box, code)


@pytest.mark.parametrize("wrong", ["web", "*", "other"])
def test_a_code_for_another_place_is_refused_and_spent(box: Box, wrong: str) -> None:
    """Whoever got hold of it gets nothing, and nobody gets anything afterwards."""
    code = link(box)
    with pytest.raises(Unauthenticated):
        redeem(box, code, wrong)
    with pytest.raises(Unauthenticated):
        redeem(box, code, "")
    pages = box.tokens.owner(redeem(box, link(box)))
    code = box.as_actor(pages, "login.pass", app_id="other")["code"]
    with pytest.raises(Unauthenticated):
        redeem(box, code, "web")
    assert box.wanted() == {}


def test_a_code_is_good_for_minutes(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five for a link, one for a redirect."""
    pages = box.tokens.owner(redeem(box, link(box)))
    slow, fast, now = link(box), box.as_actor(pages, "login.pass", app_id="web")["code"], time.monotonic()
    passed = SimpleNamespace(time=time.time, monotonic=lambda: now + 61)
    monkeypatch.setattr(login, "time", passed)
    with pytest.raises(Unauthenticated):
        redeem(box, fast, "web")
    passed.monotonic = lambda: now + 301
    with pytest.raises(Unauthenticated):
        redeem(box, slow)


def test_a_clock_that_is_set_ends_no_code(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is for a person, for whom five minutes are over when they are over."""
    code, now = link(box), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    assert redeem(box, code)


@pytest.mark.parametrize("code", ["", "x", "é", "x" * 1000, "flyted_" + "A" * 43])
def test_a_guessed_code_is_refused(box: Box, code: str) -> None:
    """256 bits are not guessed; nonsense is answered alike."""
    link(box)
    with pytest.raises(Unauthenticated):
        redeem(box, code)


def test_codes_are_bounded(box: Box) -> None:
    """Asking for links fills no memory; the newest work."""
    codes = [link(box) for _ in range(MOST_CODES + 5)]
    other = link(box, CAROL)
    assert len(box.logins._codes) == MOST_CODES + 1
    redeem(box, codes[-1])
    redeem(box, codes[-MOST_CODES])
    redeem(box, other)
    with pytest.raises(Unauthenticated):
        redeem(box, codes[0])


def test_a_link_of_somebody_who_left_is_worth_nothing(box: Box) -> None:
    """Membership is asked for again when it is used."""
    code = link(box)
    box.members.discard(BOB)
    with pytest.raises(PermissionRefused):
        redeem(box, code)


def test_only_a_login_of_the_pages_is_passed_on(box: Box) -> None:
    """An app's cookie gets no cookie of another app."""
    pages = box.tokens.owner(redeem(box, link(box)))
    cookie = box.tokens.owner(redeem(box, box.as_actor(pages, "login.pass", app_id="web")["code"], "web"))
    assert Right.READ not in cookie.rights, "so Control refuses login.pass"
    with pytest.raises(NotFound):
        box.as_actor(pages, "login.pass", app_id="nosuch")


def test_logging_out_ends_the_cookies(box: Box) -> None:
    """Of the pages and of the apps that were opened from there, at once; another login goes on."""
    (pages, cookie), (_, other) = logged_in(box), logged_in(box)
    passed = box.as_actor(pages, "login.pass", app_id="other")["code"]
    box.as_actor(pages, "login.end")
    with pytest.raises(Unauthenticated):
        box.tokens.owner(cookie)
    with pytest.raises(Unauthenticated):
        redeem(box, passed, "other")
    assert box.tokens.owner(other).uid == 1001
    assert len(box.wanted()) == 1


def test_revoking_a_login_ends_what_came_of_it(box: Box) -> None:
    """By its id, which ``token ls`` shows."""
    pages, cookie = logged_in(box)
    assert pages.token is not None
    box.ask(BOB, "token.revoke", token=pages.token.id, all=False)
    with pytest.raises(Unauthenticated):
        box.tokens.owner(cookie)
    assert box.table.all() == ()


def test_a_cookie_lives_no_longer_than_its_login(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going from app to app makes no login longer."""
    pages = box.tokens.owner(redeem(box, link(box)))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 12 * 3600 - 60)
    cookie = box.tokens.owner(redeem(box, box.as_actor(pages, "login.pass", app_id="web")["code"], "web"))
    assert pages.token is not None
    assert cookie.token is not None
    assert abs(cookie.token.expires_at - pages.token.expires_at) < 1


@pytest.mark.parametrize("verb", ["token.mint", "token.create"])
def test_a_token_of_a_program_is_not_passed_on(box: Box, verb: str) -> None:
    """It would live on as a cookie."""
    made = box.ask(BOB, "token.mint")["token"] if verb == "token.mint" else box.create(BOB, "ci")
    with pytest.raises(PermissionRefused, match="browser"):
        box.as_actor(box.tokens.owner(made), "login.pass", app_id="web")


def test_redeeming_needs_no_token_but_the_code(sockets: tuple[Box, BothSockets]) -> None:
    """The code is the credential; the api socket is the only place for it."""
    _, api = sockets
    code = client.call("login.create", path=api.control)["code"]
    cookie = api.call("login.redeem", code=code, app_id="")["token"]
    assert api.call("whoami", cookie)["kind"] == "browser"
    assert api.call("app.list", cookie) == {}
    for verb in ("app.stop", "secret.delete"):
        with pytest.raises(PermissionRefused, match="this token"):
            api.call(verb, cookie)
    with pytest.raises(InvalidInput):
        client.call("login.redeem", {"code": code, "app_id": ""}, path=api.control)
