"""Tokens and logins: who gets one, what it is good for, when it ends. Over the real sockets, with the real table."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flyted.contract import client, token
from flyted.contract.errors import (
    AlreadyExists,
    FlytedError,
    IngressDown,
    InvalidInput,
    LimitReached,
    NotFound,
    PermissionRefused,
    Unauthenticated,
)
from flyted.daemon import login
from flyted.daemon.actor import Actor
from flyted.daemon.grants import LOOK_S, Grants
from flyted.daemon.login import MOST_CODES, Logins
from flyted.daemon.tokens import Tokens
from flyted.daemon.verbs import Call, Right, Verb
from flyted.host import people
from flyted.host.clock import Clock
from flyted.host.ingress import Ingress
from flyted.host.store import Store
from flyted.host.tokens import Tokens as Table
from flyted.host.watch_files import FileWatch
from flyted.plan.facts import ImageFact, Token
from flyted.plan.tokens import EXPIRED_KEPT_S, MOST, NAMED
from tests.daemon.clocks import SettableClock
from tests.daemon.doors import Doors
from tests.plan.stored import spec

BOB, CAROL, ME = (1001, "bob"), (1002, "carol"), (os.getuid(), people.name_of(os.getuid()))


async def done(_call: Call) -> dict[str, Any]:
    """A verb that needs a right and does nothing."""
    return {}


class Box:
    """The daemon's parts that know tokens, on two sockets. The name service is a set of (uid, name)."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.members = {BOB, CAROL, ME, (0, "root")}
        names = dict([BOB, CAROL, ME, (0, "root")])
        monkeypatch.setattr(people, "may_operate", lambda uid, name: (uid, name) in self.members)
        monkeypatch.setattr(people, "name_of", lambda uid: names.get(uid, str(uid)))
        self.store = Store(folder / "flyted.db")
        for name in ("web", "other"):
            self.store.add_revision(spec(name), ImageFact("/i"), "f", 1.0)
        self.table = Table(self.store.database)
        (folder / "ingress").mkdir()
        self.ingress = Ingress(folder / "admin.sock", folder / "ingress")
        self.etc = folder / "etc"
        self.etc.mkdir()
        self.watch = FileWatch(self.etc, people.FILES)
        monkeypatch.setattr(people, "in_files", lambda: True)
        self.grants = Grants(self.table, self.store, self.ingress, lambda: False, Clock(), self.watch)
        self.tokens = Tokens(self.table, self.store, self.grants)
        self.logins = Logins(self.tokens, self.store, "apps.localhost", lambda: 8443)
        self.verbs = {
            "version": Verb(Right.READ, {}, done, anonymous=True),
            "app.list": Verb(Right.READ, {}, done),
            "app.stop": Verb(Right.OPERATE, {}, done),
            "secret.delete": Verb(Right.SECRETS, {}, done),
            "secret.accept-rollback": Verb(Right.ADMIN, {}, done),
            **self.tokens.verbs(),
            **self.logins.verbs(),
        }

    def ask(self, who: tuple[int, str], verb: str, **args: Any) -> dict[str, Any]:
        """A verb on behalf of somebody whom the kernel would know."""
        return self.as_actor(Actor(who[0], 1), verb, **args)

    def as_actor(self, actor: Actor, verb: str, **args: Any) -> dict[str, Any]:
        """A verb on behalf of an actor."""

        async def nowhere(_event: dict[str, Any]) -> None:
            """No events are wanted."""

        row = self.verbs[verb]
        return dict(asyncio.run(_run(row, Call(actor, row.check(args), b"", None, nowhere))))

    def create(self, who: tuple[int, str], name: str, expires_s: int = 60, app: str = "") -> str:
        """A named token's text."""
        args = {"name": name, "expires_s": expires_s, "project": "", "domain": "", "app": app}
        return str(self.ask(who, "token.create", **args)["token"])

    def written(self) -> str:
        """The ingress's table on disk."""
        return (self.folder / "ingress/tokens.map").read_text()


async def _run(verb: Verb, call: Call) -> dict[str, Any]:
    return await verb.handler(call)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """Two members, two apps, no token."""
    made = Box(tmp_path, monkeypatch)
    yield made
    made.store.close()


class BothDoors(Doors):
    """The control and the api socket."""

    def __init__(self, box: Box) -> None:
        self.control, self.api = box.folder / "control.sock", box.folder / "api.sock"
        super().__init__({self.control: None, self.api: box.tokens.owner}, box.verbs)

    def call(self, verb: str, token: str = "", **args: Any) -> dict[str, Any]:
        """On the api socket."""
        return client.call(verb, args, token=token, path=self.api)


@pytest.fixture
def doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Box, BothDoors]]:
    """The sockets, and what is behind them. SQLite's connection is used by the thread only."""
    import sqlite3

    connect: Any = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, check_same_thread=False))
    box = Box(tmp_path, monkeypatch)
    running = BothDoors(box)
    yield box, running
    running.stop()
    box.store.close()


def test_a_minted_token_speaks_for_its_owner(doors: tuple[Box, BothDoors]) -> None:
    """On the api socket: who they are, and a member's rights, never root's."""
    _, api = doors
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
def test_without_a_token_nothing_is_answered(doors: tuple[Box, BothDoors], verb: str) -> None:
    """Not even which verbs there are; the peer, whoever it is, has no right of its own."""
    _, api = doors
    for bad in ("", "x", "flyted_", token.new(bytes(32)), "flyted_" + "x" * 43, "x" * 500, "é"):
        with pytest.raises(Unauthenticated):
            api.call(verb, bad)


def test_the_version_is_told_to_anybody(doors: tuple[Box, BothDoors]) -> None:
    """The one thing that a gateway asks for itself."""
    assert doors[1].call("version") == {}


def test_a_token_makes_no_other_token(doors: tuple[Box, BothDoors]) -> None:
    """Whoever stole one for an hour has it for an hour."""
    _, api = doors
    minted = client.call("token.mint", path=api.control)["token"]
    for verb in ("token.mint", "token.create", "token.list", "token.revoke", "login.create"):
        with pytest.raises(InvalidInput, match="knows no verb"):
            api.call(verb, minted)


def test_the_control_socket_takes_no_tokens(doors: tuple[Box, BothDoors]) -> None:
    """There the kernel says who calls; a token would be somebody else's words."""
    _, api = doors
    with pytest.raises(InvalidInput, match="control socket"):
        client.call("app.list", token=token.new(bytes(32)), path=api.control)


def test_a_revoked_token_is_refused_at_once(doors: tuple[Box, BothDoors]) -> None:
    """Here and in the ingress's table."""
    box, api = doors
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
        assert box.grants.wanted() == {}
        assert box.ask(BOB, "token.list")["tokens"] == []
        box.grants.sweep()
        box.ask(BOB, "token.mint")
    monkeypatch.setattr(time, "time", lambda: now)
    assert box.tokens.owner(made).uid == 1001


def test_the_ingress_hears_at_once_that_the_clock_was_set(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Years ahead no token counts, and nothing looks any more; back again, it does."""
    made, now = token.digest(box.create(BOB, "ci", 60)), time.time()
    clock = SettableClock()
    grants = Grants(box.table, box.store, box.ingress, lambda: False, clock, box.watch)
    table = box.folder / "ingress/tokens.map"

    async def scene() -> None:
        task = asyncio.create_task(grants.run())
        await clock.waited()
        assert made in table.read_text()
        await clock.set_to(monkeypatch, now + 730 * 86400)
        assert made not in table.read_text()
        assert clock.waits[-1] is None
        await clock.set_to(monkeypatch, now)
        assert made in table.read_text()
        task.cancel()

    asyncio.run(scene())


def looked(box: Box, story: Callable[[SettableClock, Path], Coroutine[Any, Any, None]]) -> list[float | None]:
    """Runs what keeps the ingress's table true beside a story; the moments for which it waited."""
    clock = SettableClock()
    grants = Grants(box.table, box.store, box.ingress, lambda: False, clock, box.watch)

    async def scene() -> None:
        task = asyncio.create_task(grants.run())
        await clock.waited()
        await story(clock, box.folder / "ingress/tokens.map")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scene())
    return clock.waits


def test_at_rest_nobody_looks_before_the_first_token_expires(box: Box) -> None:
    """With tokens too: no timer but that one."""
    box.create(BOB, "late", 86400)
    box.create(CAROL, "soon", 600)
    first = min(each.expires_at for each in box.table.all())

    async def story(clock: SettableClock, _table: Path) -> None:
        await asyncio.sleep(0.1)

    assert looked(box, story) == [first]


def test_who_leaves_the_group_loses_access_at_once(box: Box) -> None:
    """The file is replaced, as deluser(8) does it; a second look follows, should a cache have been behind."""
    made = token.digest(box.create(BOB, "ci", 86400))

    async def story(clock: SettableClock, table: Path) -> None:
        assert made in table.read_text()  # noqa: ASYNC240
        box.members.discard(BOB)
        (box.etc / "group+").write_text("flyted:x:999:\n")
        (box.etc / "group+").rename(box.etc / "group")
        await clock.waited(2)
        assert made not in table.read_text()  # noqa: ASYNC240

    now = time.time()
    waits = looked(box, story)
    assert waits[1] is not None
    assert now < waits[1] <= now + 10


def test_where_files_do_not_tell_there_is_a_look_each_minute(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sssd, LDAP and the like, and where the kernel gives no watch."""
    box.create(BOB, "ci", 86400)

    async def story(_clock: SettableClock, _table: Path) -> None:
        return None

    with monkeypatch.context() as patch:
        patch.setattr(people, "in_files", lambda: False)
        (wait,) = looked(box, story)
    assert wait is not None
    assert wait <= time.time() + LOOK_S
    box.watch.close()
    (wait,) = looked(box, story)
    assert wait is not None
    assert wait <= time.time() + LOOK_S


def test_a_disk_that_refuses_a_deletion_keeps_nobodys_access(box: Box) -> None:
    """There is a token to delete, which fails; that an owner has left the group reaches the ingress all the same."""
    made = token.digest(box.create(BOB, "ci"))
    box.table.add(Token("d", "i", "session", "carol", 1002, "", "", 1.0, 2.0))
    box.store.database._db.execute("PRAGMA query_only = ON")
    box.members.discard(BOB)

    async def story(_clock: SettableClock, table: Path) -> None:
        assert made not in table.read_text()  # noqa: ASYNC240

    looked(box, story)
    assert box.table.find("d").user == "carol"


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
    assert set(box.grants.wanted()) == {token.digest(named)}
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
    box.grants.sweep()
    assert kept - {each.digest for each in box.table.all()} == {token.digest(minted)}


def test_who_left_the_group_has_no_token_any_more(box: Box) -> None:
    """Neither their old ones nor new ones; nor has whoever is given their uid later."""
    made = box.create(BOB, "ci")
    box.members.discard(BOB)
    with pytest.raises(Unauthenticated):
        box.tokens.owner(made)
    assert box.grants.wanted() == {}
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
    (value,) = box.grants.wanted().values()
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


def test_an_ingress_that_is_down_keeps_nobody_from_a_token(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds the token in its file when it starts; but a token that cannot be ended there is said."""

    async def down() -> None:
        raise IngressDown("down")

    made = box.create(BOB, "ci")
    box.grants._runs = lambda: True
    monkeypatch.setattr(box.ingress, "apply_tokens", down)  # HAProxy that hangs; a real one is in test_grants
    box.create(BOB, "ci2")
    with pytest.raises(IngressDown):
        box.ask(BOB, "token.revoke", token="ci", all=False)
    with pytest.raises(Unauthenticated):
        box.tokens.owner(made)


def link(box: Box, who: tuple[int, str] = BOB) -> str:
    """The code of a login link."""
    answer = box.ask(who, "login.create")
    assert answer["url"] == f"https://flyted.localhost:8443/login?code={answer['code']}"
    return str(answer["code"])


def redeem(box: Box, code: str, app_id: str = "") -> str:
    """A browser's token for a code."""
    return str(box.ask((-1, ""), "login.redeem", code=code, app_id=app_id)["token"])


def test_a_login_reads_the_pages_and_opens_an_app(box: Box) -> None:
    """From the link to the cookie of the pages, and from there to the cookie of an app; each for its place only."""
    pages = box.tokens.owner(redeem(box, link(box)))
    assert (pages.uid, pages.rights) == (1001, frozenset({Right.READ}))
    assert box.grants.wanted() == {}, "the cookie of the pages opens no app"
    passed = box.as_actor(pages, "login.pass", app_id="web.apps.localhost")
    assert passed["url"] == "https://web.apps.localhost:8443/.flyted/session"
    cookie = box.tokens.owner(redeem(box, passed["code"], "web"))
    assert (cookie.uid, cookie.rights) == (1001, frozenset())
    (value,) = box.grants.wanted().values()
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
    assert box.grants.wanted() == {}


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


def logged_in(box: Box) -> tuple[Actor, str]:
    """Somebody at the pages, and their cookie for app web."""
    pages = box.tokens.owner(redeem(box, link(box)))
    return pages, redeem(box, box.as_actor(pages, "login.pass", app_id="web")["code"], "web")


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
    assert len(box.grants.wanted()) == 1


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


def test_redeeming_needs_no_token_but_the_code(doors: tuple[Box, BothDoors]) -> None:
    """The code is the credential; the api socket is the only place for it."""
    _, api = doors
    code = client.call("login.create", path=api.control)["code"]
    cookie = api.call("login.redeem", code=code, app_id="")["token"]
    assert api.call("whoami", cookie)["kind"] == "browser"
    assert api.call("app.list", cookie) == {}
    for verb in ("app.stop", "secret.delete"):
        with pytest.raises(PermissionRefused, match="this token"):
            api.call(verb, cookie)
    with pytest.raises(InvalidInput):
        client.call("login.redeem", {"code": code, "app_id": ""}, path=api.control)


def test_a_hundred_clients_of_the_gateway_are_served_at_once(doors: tuple[Box, BothDoors]) -> None:
    """All come from one user, the gateway's: the bound per user is not for this socket."""
    _, api = doors
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


def test_strange_user_names_become_numbers_for_the_ingress() -> None:
    """A name with a space would be two words of HAProxy's table."""
    from flyted.plan.tokens import grants

    owner = (4711, "AD\\the boss")
    one = Token("d", "i", "session", owner[1], owner[0], "", "", 1.0, 100.0)
    assert grants([one], {owner: True}, 50.0) == {"d": "100 * 4711"}
    assert grants([one], {owner: False}, 50.0) == {}
    assert grants([one], {}, 50.0) == {}
    assert grants([one], {owner: True}, 100.0) == {}


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


def test_what_the_ingress_saw_is_written_down(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lists the tokens has it as of now; an ingress that does not run is not started for it."""
    made = box.create(BOB, "ci", 10 * 86400)
    now = time.time()

    async def uses() -> dict[str, float]:
        return {token.digest(made): 2 * 86400.0, "0" * 64: 1.0}

    monkeypatch.setattr(box.ingress, "token_uses", uses)
    assert [t["used_at"] for t in box.ask(BOB, "token.list")["tokens"]] == [0.0]
    monkeypatch.setattr(box.grants, "_runs", lambda: True)
    (found,) = box.ask(BOB, "token.list")["tokens"]
    assert found["used_at"] == (now - 2 * 86400) // 86400 * 86400
