"""What the token verbs do reaches a real HAProxy at once, and survives its death."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.contract.token import digest
from flyted.plan.ingress.state import IngressState
from tests.daemon.token_harness import BOB, CAROL, Box
from tests.host.haproxy import Machine, apply, machine, needs_haproxy

pytestmark = [pytest.mark.slow, needs_haproxy]
HOST = "web.apps.localhost"


def state(running: Machine) -> IngressState:
    """App web, which wants a token."""
    return IngressState(
        servers={"web-r1-0": running.server("web-r1-0")}, hosts={HOST: "web-r1-0"}, guarded={HOST: "web"}
    )


class Both:
    """The daemon's parts that know tokens, with the real HAProxy as their ingress."""

    def __init__(self, running: Machine, box: Box) -> None:
        self.running, self.box = running, box
        self.up = True
        self.app = running.app("web-r1-0")
        box.ingress = running.ingress
        box.ingress.tokens = box.wanted
        box.ingress_tokens = box.ingress_tokens_over(running.ingress, lambda: self.up)
        box.tokens._ingress_tokens = box.ingress_tokens
        apply(running, state(running))

    def status(self, token: str) -> int:
        """What a request with this token is answered."""
        return self.running.get(host=HOST, headers=f"Authorization: Bearer {token}\r\n")[0]


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    """HAProxy runs; there is no token."""
    (tmp_path / "box").mkdir()
    (tmp_path / "ingress").mkdir()
    with machine(tmp_path / "ingress") as running:
        box = Box(tmp_path / "box", monkeypatch)
        yield Both(running, box)
        box.close()


def test_a_token_counts_from_its_first_moment_to_its_last(both: Both) -> None:
    """When the verb has answered, so does the ingress."""
    made = both.box.create(BOB, "ci")
    assert both.status(made) == 200
    both.box.ask(BOB, "token.revoke", token="ci", all=False)
    assert both.status(made) == 401


def test_a_token_of_one_app_opens_that_one(both: Both) -> None:
    """Not the others."""
    assert both.status(both.box.create(BOB, "here", app="web")) == 200
    assert both.status(both.box.create(BOB, "there", app="other")) == 401


def test_a_token_made_while_the_ingress_was_down_counts_when_it_is_back(both: Both) -> None:
    """And one that was revoked meanwhile does not: the files are written first."""
    kept, ended = both.box.create(BOB, "kept"), both.box.create(BOB, "ended")
    both.running.stop()  # SIGKILL
    both.up = False
    newest = both.box.create(CAROL, "newest")
    both.box.ask(BOB, "token.revoke", token="ended", all=False)
    both.running.start()
    assert [both.status(t) for t in (kept, newest, ended)] == [200, 200, 401]


def test_word_of_the_ingress_repairs_the_table(both: Both) -> None:
    """Somebody took entries out and put others in: once the ingress's unit is heard of, it is as it should be."""
    made = both.box.create(BOB, "ci")
    files = both.running.files

    async def meddle() -> None:
        await both.running.ingress._haproxy.ask(f"clear map {files}/tokens.map")
        await both.running.ingress._haproxy.ask(f"add map {files}/tokens.map {digest('x')} 9999999999\\ *\\ root")

    asyncio.run(meddle())
    assert both.status(made) == 401
    both.running.ingress.forget()
    apply(both.running, state(both.running))
    assert both.status(made) == 200
    assert digest("x") not in asyncio.run(both.running.ingress._haproxy.ask(f"show map {files}/tokens.map"))


def test_an_owner_who_left_the_group_loses_access(both: Both) -> None:
    """At the next look at the tokens."""
    made = both.box.create(BOB, "ci")
    both.box.members.discard(BOB)
    assert both.status(made) == 200
    asyncio.run(both.box.ingress_tokens.check())
    assert both.status(made) == 401
