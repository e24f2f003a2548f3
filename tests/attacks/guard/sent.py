"""Tokens, what carries them, and an ingress that knows some of them, for all tests of this folder."""

from __future__ import annotations

import asyncio
import time

from flyted.contract import token as text
from flyted.plan.ingress.state import IngressState
from tests.host.haproxy import Machine


def made(number: int) -> str:
    """A token of its own for each number."""
    return text.new(bytes([number]) * 32)


GOOD, HERE, EXPIRED, OTHER, UNKNOWN = made(1), made(2), made(3), made(4), made(5)
COOKIE = f"__Host-flyted={HERE}"
BROWSER = "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"


def token_table() -> dict[str, str]:
    """What the ingress knows: digests."""
    soon, past = int(time.time()) + 3600, int(time.time()) - 1
    return {
        text.digest(GOOD): f"{soon} * bob",
        text.digest(HERE): f"{soon} a bob",
        text.digest(OTHER): f"{soon} b bob",
        text.digest(EXPIRED): f"{past} * bob",
    }


def tell(box: Machine, tokens: dict[str, str]) -> None:
    """As flyted does after each change."""
    box.ingress.tokens = lambda: tokens
    asyncio.run(box.ingress.apply_tokens())


def state(box: Machine) -> IngressState:
    """App a wants a token, app b another one's, app c none."""
    names = ("a", "b", "c")
    return IngressState(
        servers={f"{n}-r1-0": box.server(f"{n}-r1-0") for n in names},
        hosts={f"{n}.apps.localhost": f"{n}-r1-0" for n in names},
        guarded={f"{n}.apps.localhost": n for n in ("a", "b")},
    )


def fields(request: bytes) -> dict[str, str]:
    """What an app was told, by lower-case name."""
    lines = request.decode().partition("\r\n\r\n")[0].split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def bearer(token: str) -> str:
    """The one way for programs."""
    return f"Authorization: Bearer {token}\r\n"
