"""What the verbs of tokens do at the ingress. When its table is looked at otherwise is in test_life_tokens.py."""

from __future__ import annotations

import time

import pytest

from flyted.contract import token
from flyted.contract.errors import IngressDown, Unauthenticated
from tests.daemon.token_harness import BOB, Box


def test_an_ingress_that_is_down_keeps_nobody_from_a_token(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds the token in its file when it starts; but a token that cannot be ended there is said."""

    async def down() -> None:
        raise IngressDown("down")

    made = box.create(BOB, "ci")
    box.ingress_tokens._runs = lambda: True
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
    monkeypatch.setattr(box.ingress_tokens, "_runs", lambda: True)
    (found,) = box.ask(BOB, "token.list")["tokens"]
    assert found["used_at"] == (now - 2 * 86400) // 86400 * 86400
