"""The ingress's table of tokens, as time goes by and people leave, on the machine of ``life.py``."""

from __future__ import annotations

import asyncio

import pytest

from flyted.daemon.api.actor import Actor
from flyted.daemon.api.verbs import Call
from flyted.host import people
from flyted.plan.tokens import AGAIN_S, DAY_S, EXPIRED_KEPT_S, LOOK_S, NOTE_S, Token
from tests.daemon.life import Life, up

BOB = (1001, "bob")


@pytest.fixture(autouse=True)
def members(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, str]]:
    """Who is in the group; the files say so."""
    found = {BOB}
    monkeypatch.setattr(people, "may_operate", lambda uid, name: (uid, name) in found)
    monkeypatch.setattr(people, "in_files", lambda: True)
    return found


def token(life: Life, life_s: float = DAY_S) -> str:
    """Bob makes one; its digest."""
    _text, made = life.loop.run_until_complete(life.running.access.issue(BOB, "named", life_s, name=f"t{life_s}"))
    life.run(1)
    return made.digest


def opens(life: Life) -> set[str]:
    """The tokens that open apps, as HAProxy has them."""
    return set(life.haproxy.tokens)


def change_group(life: Life) -> None:
    """The file is replaced, as deluser(8) does it."""
    life.running.watch.changed()
    life.loop.run_until_complete(asyncio.sleep(0.01))


def looks(life: Life, seconds: float) -> int:
    """How many passes there are in so much time."""
    before = life.running.systemd.looks
    life.run(seconds)
    return life.running.systemd.looks - before


def test_at_rest_nobody_looks_before_the_uses_are_noted_or_a_token_expires(life: Life) -> None:
    """With tokens too: in ten minutes nothing at all happens."""
    kept, soon = token(life), token(life, 1200.0)
    life.run(10)
    assert opens(life) == {kept, soon}
    assert looks(life, 1100.0) == 0
    assert looks(life, 200.0) == 2, "the one that it is due, and the end of that look"
    assert opens(life) == {kept}
    assert looks(life, 600.0) == 0
    assert not life.world.faults


def test_without_tokens_nobody_looks_at_all(life: Life) -> None:
    """A machine without tokens has no timer of theirs."""
    life.run(10)
    assert looks(life, 10 * DAY_S) == 0


def test_uses_are_noted_once_an_hour(life: Life) -> None:
    """The day of the last one."""
    made = token(life)
    life.run(10)
    life.haproxy.uses[made] = life.world.now
    assert life.running.tokens.find(made).used_at == 0
    life.run(NOTE_S)
    assert life.running.tokens.find(made).used_at == 1.7e9 // DAY_S * DAY_S
    assert not life.world.faults


def test_the_ingress_hears_at_once_that_the_clock_was_set(life: Life) -> None:
    """Years ahead no token counts, and nothing looks any more; back again, it does."""
    made = token(life)
    life.set_clock(730 * DAY_S)
    life.run(1)
    assert opens(life) == set()
    life.set_clock(-730 * DAY_S)
    life.run(1)
    assert opens(life) == {made}
    assert not life.world.faults


def test_a_machine_that_was_suspended_looks_when_it_is_back(life: Life) -> None:
    """The token expired meanwhile."""
    token(life, 600.0)
    life.suspend(1000.0)
    life.run(1)
    assert opens(life) == set()
    assert not life.world.faults


def test_who_leaves_the_group_loses_access_at_once(life: Life, members: set[tuple[int, str]]) -> None:
    """A second look follows, should a cache have been behind."""
    made = token(life)
    change_group(life)
    life.run(1)
    assert opens(life) == {made}
    members.discard(BOB)
    life.run(AGAIN_S)
    assert opens(life) == set()
    members.add(BOB)
    change_group(life)
    life.run(0.1)
    assert opens(life) == {made}
    assert not life.world.faults


def test_where_files_do_not_tell_there_is_a_look_each_minute(
    life: Life, members: set[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of sssd, LDAP and the like."""
    monkeypatch.setattr(people, "in_files", lambda: False)
    made = token(life)
    assert opens(life) == {made}
    members.discard(BOB)
    life.run(LOOK_S)
    assert opens(life) == set()


def test_where_the_kernel_gives_no_watch_there_is_a_look_each_minute(
    life: Life, members: set[tuple[int, str]]
) -> None:
    """As on a machine with too many of them."""
    life.running.watch.hears = False
    made = token(life)
    assert opens(life) == {made}
    members.discard(BOB)
    life.run(LOOK_S)
    assert opens(life) == set()


def test_a_disk_that_refuses_a_deletion_keeps_nobodys_access(life: Life, members: set[tuple[int, str]]) -> None:
    """There is a token to delete, which fails; that an owner has left the group reaches the ingress all the same."""
    made = token(life)
    table = life.running.tokens
    table.add(Token("d", "i", "session", "carol", 1002, "", "", 1.0, 1.7e9 - EXPIRED_KEPT_S))
    life.fill_disk(full=True)
    members.discard(BOB)
    change_group(life)
    life.run(1)
    assert made not in opens(life)
    assert table.find("d").user == "carol"
    life.fill_disk(full=False)
    assert not life.world.faults


def test_an_ingress_that_does_not_answer_is_told_when_it_does(life: Life, members: set[tuple[int, str]]) -> None:
    """Passes for apps go on meanwhile."""
    made = token(life)
    replica = up(life)
    life.haproxy.hangs = True
    members.discard(BOB)
    change_group(life)
    life.run(20)
    assert opens(life) == {made}
    life.haproxy.hangs = False
    life.run(LOOK_S + 10)
    assert opens(life) == set()
    assert replica in life.world.pairs
    assert not life.world.faults


def test_a_new_haproxy_has_the_tokens_of_its_files(life: Life) -> None:
    """Also one that was made while it was away."""
    first = token(life)
    life.haproxy.end()
    life.run(1)
    second = token(life, 7200.0)
    assert opens(life) == {first}
    life.haproxy.begin()
    assert opens(life) == {first, second}
    assert not life.world.faults


def test_a_list_of_tokens_has_their_uses_as_of_now(life: Life) -> None:
    """Whoever lists them need not wait for the hour."""
    made = token(life)
    life.haproxy.uses[made] = life.world.now

    async def listed() -> float:
        call = Call(Actor(0, 1), {}, b"", {}, lambda _event: asyncio.sleep(0))
        (found,) = (await life.running.access.list_all(call)).tokens
        return found.used_at

    assert life.loop.run_until_complete(listed()) == 1.7e9 // DAY_S * DAY_S
    assert not life.world.faults
