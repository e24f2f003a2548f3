"""What HAProxy is asked and told: only what has changed, and all of it once it may have forgotten."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from flyted.contract.errors import IngressDown
from flyted.host.ingress import Applied
from tests.host.haproxy import A, B, apply, needs_haproxy, one, until

pytestmark = [pytest.mark.slow, needs_haproxy]


def asked(box, monkeypatch):
    """The questions that HAProxy is asked from now on."""
    questions: list[str] = []
    ask = box.ingress._haproxy.ask

    async def heard(command: str, *, secret: bool = False) -> str:
        questions.append(command)
        return str(await ask(command, secret=secret))

    monkeypatch.setattr(box.ingress._haproxy, "ask", heard)
    return questions


def test_what_has_not_changed_costs_no_question_and_no_write(box, monkeypatch):
    """The counters are one question. After a restart of HAProxy, or word of one, it is asked what it has."""
    box.app("a-r1-0")
    wanted = one(box, limit=1234)
    apply(box, wanted)
    asyncio.run(box.ingress.stats())
    assert apply(box, wanted) == Applied()
    files = {path: path.stat().st_ino for path in box.files.iterdir()}
    questions = asked(box, monkeypatch)
    for _ in range(3):
        assert set(asyncio.run(box.ingress.stats())) == {"a-r1-0"}
        assert apply(box, wanted) == Applied()
    assert questions == [f"show info; show stat -1 4 -1; show map {box.files}/uncounted.map"] * 3
    box.ingress.write(wanted, box.listen)
    assert {path: path.stat().st_ino for path in box.files.iterdir()} == files
    box.stop()
    box.start()
    asyncio.run(box.ingress.stats())
    questions.clear()
    assert apply(box, wanted) == Applied()
    assert "show info" in questions, "another process answers"
    box.ingress.forget()
    questions.clear()
    assert apply(box, wanted) == Applied()
    assert "show info" in questions
    assert {path: path.stat().st_ino for path in box.files.iterdir()} == files
    box.app("a-r2-0")
    apply(box, one(box, "a-r2-0"))
    assert box.get()[::2] == (200, "a-r2-0\n")


def test_of_many_servers_only_those_that_are_asked_about_are_counted(box, monkeypatch):
    """By the numbers that HAProxy gave them, also after one was made anew and in another process."""
    names = [f"{name}-r1-0" for name in "abc"]
    for name in names:
        box.app(name)
    three = replace(one(box), servers={name: box.server(name) for name in names})
    apply(box, three)
    questions = asked(box, monkeypatch)

    def counted(*names):
        questions.clear()
        return set(asyncio.run(box.ingress.stats(names)))

    assert counted("a-r1-0") == {"a-r1-0"}
    assert counted("c-r1-0", "b-r1-0") == {"b-r1-0", "c-r1-0"}
    uncounted = f"show map {box.files}/uncounted.map"
    assert questions == [f"show info; show stat apps 4 3; show stat apps 4 2; {uncounted}"]
    assert counted("x-r1-0") == set()
    assert counted("x-r1-0") == set()
    assert questions == ["show info"], "HAProxy does not have it: that is known until something changes"
    assert counted() == set()
    apply(box, one(box))
    apply(box, replace(three, servers={name: box.server(name) for name in reversed(names)}))
    assert counted("c-r1-0", "a-r1-0") == {"a-r1-0", "c-r1-0"}
    box.stop()
    box.start()
    for name in names:
        assert counted(name) == {name}


def test_a_change_is_told_from_what_was_told_before(box, monkeypatch):
    """No map and no counter of the other apps is read; a server that still answers somebody stays."""
    app = box.app("a-r1-0")
    box.app("b-r1-0")
    two = replace(one(box), servers={name: box.server(name) for name in ("a-r1-0", "b-r1-0")})
    two = replace(two, hosts={A: "a-r1-0", B: "b-r1-0"})
    apply(box, two)
    asyncio.run(box.ingress.stats())
    questions = asked(box, monkeypatch)
    held = threading.Thread(target=box.get, args=("/hold",))
    held.start()
    until(lambda: any(b"/hold" in seen for seen in app.seen))
    left = replace(two, servers={"b-r1-0": two.servers["b-r1-0"]}, hosts={B: "b-r1-0"})
    assert apply(box, left) == Applied(frozenset({"a-r1-0"}))
    assert questions[0] == f"show info; show stat apps 4 1; show map {box.files}/uncounted.map"
    assert [q for q in questions if q.startswith("show")] == [questions[0], f"show map {box.files}/tokens.map"]
    app.release.set()
    held.join()
    assert apply(box, left) == Applied()
    assert asyncio.run(box.ingress.read()).state.hosts == {B: "b-r1-0"}
    questions.clear()
    apply(box, two)
    apply(box, left)
    assert not any(q.startswith("show map") and "tokens" not in q for q in questions)
    live = asyncio.run(box.ingress.read()).state
    assert (set(live.servers), live.hosts) == ({"b-r1-0"}, {B: "b-r1-0"})


def test_word_of_a_restart_in_the_middle_is_not_lost(box, monkeypatch):
    """It comes while HAProxy is being told: what is told may be told to the one that ends."""
    box.app("a-r1-0")
    ask = box.ingress._haproxy.ask

    async def meanwhile(command: str, *, secret: bool = False) -> str:
        box.ingress.forget()
        return str(await ask(command, secret=secret))

    with monkeypatch.context() as patch:
        patch.setattr(box.ingress._haproxy, "ask", meanwhile)
        apply(box, one(box))
    questions = asked(box, monkeypatch)
    apply(box, one(box))
    assert "show info" in questions


def test_counters_that_were_asked_for_before_a_server_came_do_not_hide_it(box, monkeypatch):
    """Somebody lists the apps while a pass tells HAProxy of a new one: its answer is older than what it was told."""
    for name in ("a-r1-0", "b-r1-0"):
        box.app(name)
    apply(box, one(box))
    both = replace(one(box), servers={name: box.server(name) for name in ("a-r1-0", "b-r1-0")})
    ask = box.ingress._haproxy.ask

    async def story():
        release = asyncio.Event()

        async def late(command: str, *, secret: bool = False) -> str:
            answer = str(await ask(command, secret=secret))
            await release.wait()
            return answer

        monkeypatch.setattr(box.ingress._haproxy, "ask", late)
        listed = asyncio.create_task(box.ingress.stats(["b-r1-0"]))
        await asyncio.sleep(0.2)
        monkeypatch.setattr(box.ingress._haproxy, "ask", ask)
        await box.ingress.apply(both, box.listen)
        release.set()
        assert await listed == {}
        assert set(await box.ingress.stats(["b-r1-0"])) == {"b-r1-0"}

    asyncio.run(story())


def test_a_server_whose_answer_was_lost_is_counted(box, monkeypatch):
    """HAProxy has done what it was told, and flyted did not hear so: the next apply has nothing more to tell."""
    for name in ("a-r1-0", "b-r1-0"):
        box.app(name)
    both = replace(one(box), servers={name: box.server(name) for name in ("a-r1-0", "b-r1-0")})
    both = replace(both, hosts={A: "a-r1-0", B: "b-r1-0"})
    apply(box, one(box))
    assert asyncio.run(box.ingress.stats(["b-r1-0"])) == {}
    ask = box.ingress._haproxy.ask

    async def lost(command: str, *, secret: bool = False) -> str:
        answer = str(await ask(command, secret=secret))
        if command.startswith("add map"):
            raise IngressDown("no answer in time")
        return answer

    with monkeypatch.context() as patch, pytest.raises(IngressDown):
        patch.setattr(box.ingress._haproxy, "ask", lost)
        apply(box, both)
    assert apply(box, both) == Applied()
    assert set(asyncio.run(box.ingress.stats(["b-r1-0"]))) == {"b-r1-0"}
