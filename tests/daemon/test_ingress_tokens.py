"""The ingress's table of tokens: what is written to it, and when the daemon looks at it again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from flyted.contract import token
from flyted.contract.errors import IngressDown, Unauthenticated
from flyted.daemon.access.ingress_tokens import LOOK_S, IngressTokens
from flyted.host import people
from flyted.plan.tokens import Token
from tests.daemon.clocks import SettableClock
from tests.daemon.token_harness import BOB, CAROL, Box


def test_the_ingress_hears_at_once_that_the_clock_was_set(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Years ahead no token counts, and nothing looks any more; back again, it does."""
    made, now = token.digest(box.create(BOB, "ci", 60)), time.time()
    clock = SettableClock()
    grants = IngressTokens(box.table, box.store, box.ingress, lambda: False, clock, box.watch)
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
    grants = IngressTokens(box.table, box.store, box.ingress, lambda: False, clock, box.watch)

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


def test_an_ingress_that_is_down_keeps_nobody_from_a_token(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds the token in its file when it starts; but a token that cannot be ended there is said."""

    async def down() -> None:
        raise IngressDown("down")

    made = box.create(BOB, "ci")
    box.grants._runs = lambda: True
    monkeypatch.setattr(box.ingress, "apply_tokens", down)  # HAProxy that hangs; a real one is in test_grants_haproxy
    box.create(BOB, "ci2")
    with pytest.raises(IngressDown):
        box.ask(BOB, "token.revoke", token="ci", all=False)
    with pytest.raises(Unauthenticated):
        box.tokens.owner(made)


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
