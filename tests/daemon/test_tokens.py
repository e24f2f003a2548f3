"""Tokens: who gets one, what it is good for, when it ends. Over the real sockets, with the real table."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from flyted.contract import client, token
from flyted.contract.errors import (
    AlreadyExists,
    FlytedError,
    InvalidInput,
    LimitReached,
    NotFound,
    PermissionRefused,
    Unauthenticated,
)
from flyted.daemon.api.verbs import Right
from flyted.plan.tokens import EXPIRED_KEPT_S, MOST, NAMED
from tests.daemon.token_harness import BOB, CAROL, ME, BothSockets, Box, logged_in


def test_a_minted_token_speaks_for_its_owner(sockets: tuple[Box, BothSockets]) -> None:
    """On the api socket: who they are, and a member's rights, never root's."""
    _, api = sockets
    minted = client.call("token.mint", path=api.control)
    assert token.valid_shape(minted["token"])
    assert 3590 < minted["expires_at"] - time.time() <= 3600
    who = api.call("whoami", minted["token"])
    assert (who["user"], who["uid"], who["kind"]) == (ME[1], ME[0], "session")
    assert who["rights"] == ["operate", "read", "secrets"]
    for verb in ("app.list", "app.stop", "secret.delete"):
        assert api.call(verb, minted["token"]) == {}
    with pytest.raises(PermissionRefused):
        api.call("secret.accept-rollback", minted["token"])


@pytest.mark.parametrize("verb", ["app.list", "whoami", "token.mint", "login.pass", "login.create", "no.such.verb"])
def test_without_a_token_nothing_is_answered(sockets: tuple[Box, BothSockets], verb: str) -> None:
    """Not even which verbs there are; the peer, whoever it is, has no right of its own."""
    _, api = sockets
    for bad in ("", "x", "flyted_", token.new(bytes(32)), "flyted_" + "x" * 43, "x" * 500, "é"):
        with pytest.raises(Unauthenticated):
            api.call(verb, bad)


def test_the_version_is_told_to_anybody(sockets: tuple[Box, BothSockets]) -> None:
    """The one thing that a gateway asks for itself."""
    assert sockets[1].call("version") == {}


def test_a_token_makes_no_other_token(sockets: tuple[Box, BothSockets]) -> None:
    """Whoever stole one for an hour has it for an hour."""
    _, api = sockets
    minted = client.call("token.mint", path=api.control)["token"]
    for verb in ("token.mint", "token.create", "token.list", "token.revoke", "login.create"):
        with pytest.raises(InvalidInput, match="knows no verb"):
            api.call(verb, minted)


def test_the_control_socket_takes_no_tokens(sockets: tuple[Box, BothSockets]) -> None:
    """There the kernel says who calls; a token would be somebody else's words."""
    _, api = sockets
    with pytest.raises(InvalidInput, match="control socket"):
        client.call("app.list", token=token.new(bytes(32)), path=api.control)


def test_a_revoked_token_is_refused_at_once(sockets: tuple[Box, BothSockets]) -> None:
    """Here and in the ingress's table."""
    box, api = sockets
    minted = client.call("token.mint", path=api.control)["token"]
    assert token.digest(minted) in box.written()
    api.call("whoami", minted)
    client.call("token.revoke", {"token": minted, "all": False}, path=api.control)
    assert box.written() == ""
    with pytest.raises(Unauthenticated):
        api.call("whoami", minted)


def test_an_expired_token_is_refused(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the second; and it counts again if it was the clock that was wrong."""
    made, now = box.create(BOB, "ci", 60), time.time()
    assert box.tokens.owner(made).uid == 1001
    for ahead in (61, 800 * 86400):
        monkeypatch.setattr(time, "time", lambda ahead=ahead: now + ahead)
        with pytest.raises(Unauthenticated):
            box.tokens.owner(made)
        assert box.wanted() == {}
        assert box.ask(BOB, "token.list")["tokens"] == []
        box.ingress_tokens.sweep()
        box.ask(BOB, "token.mint")
    monkeypatch.setattr(time, "time", lambda: now)
    assert box.tokens.owner(made).uid == 1001


def test_a_clock_that_was_ahead_makes_no_token_that_lives_for_years(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes by itself is good for its hour; a clock that is set back by minutes ends none."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 800 * 86400)
    minted, named = str(box.ask(BOB, "token.mint")["token"]), box.create(BOB, "ci")
    monkeypatch.setattr(time, "time", lambda: now + 800 * 86400 - 600)
    assert box.tokens.owner(minted).uid == 1001
    monkeypatch.setattr(time, "time", lambda: now)
    with pytest.raises(Unauthenticated):
        box.tokens.owner(minted)
    assert set(box.wanted()) == {token.digest(named)}
    assert [each["name"] for each in box.ask(BOB, "token.list")["tokens"]] == ["ci"]


def test_an_expired_token_gives_its_name_and_its_place_away(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its owner's next token deletes it; those that come by themselves go a month after their end."""
    now = time.time()
    minted = box.ask(BOB, "token.mint")["token"]
    old = [box.create(BOB, f"ci{n}", 60) for n in range(MOST[NAMED])]
    with pytest.raises(LimitReached):
        box.create(BOB, "more")
    monkeypatch.setattr(time, "time", lambda: now + 61)
    box.create(BOB, "ci7")
    box.create(BOB, "more")
    kept = {each.digest for each in box.table.all()}
    assert [n for n, text in enumerate(old) if token.digest(text) not in kept] == [0, 7]
    monkeypatch.setattr(time, "time", lambda: now + 3600 + EXPIRED_KEPT_S + 1)
    box.ingress_tokens.sweep()
    assert kept - {each.digest for each in box.table.all()} == {token.digest(minted)}


def test_who_left_the_group_has_no_token_any_more(box: Box) -> None:
    """Neither their old ones nor new ones; nor has whoever is given their uid later."""
    made = box.create(BOB, "ci")
    box.members.discard(BOB)
    with pytest.raises(Unauthenticated):
        box.tokens.owner(made)
    assert box.wanted() == {}
    for verb in ("token.mint", "login.create"):
        with pytest.raises(PermissionRefused, match="flyted"):
            box.ask(BOB, verb)
    box.members.add((1001, "mallory"))
    with pytest.raises(Unauthenticated):
        box.tokens.owner(made)


def test_a_token_of_one_app_has_no_right_here(box: Box) -> None:
    """It opens that app at the ingress, and nothing else anywhere."""
    actor = box.tokens.owner(box.create(BOB, "ci", app="web"))
    assert actor.rights == frozenset()
    (value,) = box.wanted().values()
    assert value.split(" ")[1:] == ["web", "bob"]


def test_roots_token_is_not_root(box: Box) -> None:
    """What is for root wants root in person."""
    actor = box.tokens.owner(box.create((0, "root"), "ops"))
    assert not actor.root
    assert Right.ADMIN not in actor.rights


def test_a_token_for_an_app_that_is_not_there_is_refused(box: Box) -> None:
    """A typing mistake is told; the token of an app that goes, goes with it."""
    with pytest.raises(NotFound):
        box.create(BOB, "ci", app="wbe")
    box.create(BOB, "ci", app="web")
    box.store.delete("web")
    assert box.table.all() == ()


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "-x", ".x", "a\n", "ü", "x" * 65])
def test_names_of_tokens_are_checked(box: Box, name: str) -> None:
    """They stand in lists and on command lines."""
    with pytest.raises(InvalidInput):
        box.create(BOB, name)


@pytest.mark.parametrize("life", [0, -1, 366 * 86400 + 1, 10**12])
def test_no_token_lives_for_ever(box: Box, life: int) -> None:
    """A year is the most."""
    with pytest.raises(InvalidInput):
        box.create(BOB, "ci", life)


def test_a_name_is_used_once_per_user(box: Box) -> None:
    """Else revoking by name would be a guess."""
    box.create(BOB, "ci")
    box.create(CAROL, "ci")
    with pytest.raises(AlreadyExists):
        box.create(BOB, "ci")


def test_everybody_sees_and_ends_their_own_and_root_all(box: Box) -> None:
    """Members are equal, and none ends another's access by a name."""
    box.create(BOB, "bobs")
    box.create(CAROL, "carols")
    assert [t["name"] for t in box.ask(BOB, "token.list")["tokens"]] == ["bobs"]
    assert [t["name"] for t in box.ask((0, "root"), "token.list")["tokens"]] == ["bobs", "carols"]
    with pytest.raises(NotFound):
        box.ask(BOB, "token.revoke", token="carols", all=False)
    (carols,) = box.ask(CAROL, "token.list")["tokens"]
    with pytest.raises(NotFound):
        box.ask(BOB, "token.revoke", token=carols["id"], all=False)
    box.ask((0, "root"), "token.revoke", token="carols", all=False)
    assert box.ask(CAROL, "token.list")["tokens"] == []


def test_all_are_ended_together(box: Box) -> None:
    """One's own, logins and what came of them too; nobody else's, but for root."""
    box.create(BOB, "ci")
    box.ask(BOB, "token.mint")
    logged_in(box)
    box.create(CAROL, "ci")
    assert len(box.ask(BOB, "token.revoke", token="", all=True)["tokens"]) == 4
    assert [t.user for t in box.table.all()] == ["carol"]
    box.ask((0, "root"), "token.revoke", token="", all=True)
    assert (box.table.all(), box.written()) == ((), "")
    assert box.ask(BOB, "token.revoke", token="", all=True)["tokens"] == []


def test_root_is_asked_which_one(box: Box) -> None:
    """Two users' tokens of one name."""
    box.create(BOB, "ci")
    box.create(CAROL, "ci")
    with pytest.raises(InvalidInput, match="several"):
        box.ask((0, "root"), "token.revoke", token="ci", all=False)


def test_a_found_token_can_be_ended_by_whoever_found_it(box: Box) -> None:
    """Who has it could use it; better that they end it."""
    made = box.create(CAROL, "ci")
    box.ask(BOB, "token.revoke", token=made, all=False)
    assert box.table.all() == ()


def test_no_answer_but_the_first_has_a_token_in_it(box: Box) -> None:
    """Nor its digest."""
    made = box.create(BOB, "ci")
    said = repr(box.ask(BOB, "token.list")) + repr(box.as_actor(box.tokens.owner(made), "whoami"))
    assert made not in said
    assert token.digest(made) not in said


def test_nothing_on_disk_or_in_the_log_is_a_token(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """Database, write-ahead log, the ingress's files, and our own words at the noisiest level."""
    caplog.set_level(logging.DEBUG)
    made = [box.create(BOB, "ci"), box.ask(CAROL, "token.mint")["token"]]
    code = box.ask(BOB, "login.create")["code"]
    made.append(box.ask(BOB, "login.redeem", code=code, app_id="")["token"])
    box.ask(BOB, "token.revoke", token="ci", all=False)
    found = b"".join(p.read_bytes() for p in box.folder.rglob("*") if p.is_file())
    assert token.digest(made[1]).encode() in found, "the search would find something"
    for secret in (*made, code):
        assert secret.encode() not in found
        assert secret not in caplog.text


def test_sessions_make_room_and_names_do_not(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest session ends for a new one; a named token is never ended by making another."""
    from flyted.plan import tokens as plan

    monkeypatch.setattr(plan, "MOST", {**MOST, "session": 3, "named": 2})
    first = box.ask(BOB, "token.mint")["token"]
    for _ in range(3):
        box.ask(BOB, "token.mint")
    box.ask(CAROL, "token.mint")
    with pytest.raises(Unauthenticated):
        box.tokens.owner(first)
    assert len(box.ask(BOB, "token.list")["tokens"]) == 3
    box.create(BOB, "a")
    box.create(BOB, "b")
    with pytest.raises(LimitReached):
        box.create(BOB, "c")
    box.create(CAROL, "c")


def test_a_hundred_clients_of_the_gateway_are_served_at_once(sockets: tuple[Box, BothSockets]) -> None:
    """All come from one user, the gateway's: the bound per user is not for this socket."""
    _, api = sockets
    minted = client.call("token.mint", path=api.control)["token"]
    failed: list[FlytedError] = []

    def one() -> None:
        try:
            api.call("app.list", minted)
        except FlytedError as error:
            failed.append(error)

    threads = [threading.Thread(target=one) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_the_day_of_a_tokens_last_use_is_known(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the day: a token costs one write a day, however often Flyte's API is asked with it; sessions cost none."""
    made, session = box.create(BOB, "ci", 10 * 86400), str(box.ask(BOB, "token.mint")["token"])
    written: list[dict[str, float]] = []
    used = box.table.used

    def noted(days: dict[str, float]) -> None:
        written.append(days)
        used(days)

    monkeypatch.setattr(box.table, "used", noted)
    today = time.time() // 86400 * 86400
    assert [t["used_at"] for t in box.ask(BOB, "token.list")["tokens"]] == [0.0, 0.0]
    for _ in range(3):
        box.tokens.owner(made)
        box.tokens.owner(session)
    assert [days for days in written if days] == [{token.digest(made): today}]
    assert sorted(t["used_at"] for t in box.ask(BOB, "token.list")["tokens"]) == [0.0, today]
    tomorrow = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    box.tokens.owner(made)
    assert [days for days in written if days][1:] == [{token.digest(made): today + 86400}]
