"""The ingress's answers to an ACME authority (RFC 8555 8.3): for names that are being proved, and for nobody else.

Whoever gets an answer for a name can have a certificate for it only with the account's key, which signs each request;
yet what is not asked for is not answered. With a real HAProxy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flyted.plan.ingress.clients import ClientRules
from flyted.plan.ingress.state import IngressState
from tests.host.haproxy import A, Machine, apply, needs_haproxy, parsed

pytestmark = [pytest.mark.slow, needs_haproxy]

SITE = "apps.example.org"
ASKED = f"a.{SITE}"
PRINT = "Kk5EGcVvFpo5-_8kkLGAGG2YKAL5jNGKBYwZq6Zk8mM"
PATH, TOKEN = "/.well-known/acme-challenge/", "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    """One app, whose name at another base domain is being proved, and so is one that is no app's yet."""
    made = Machine(tmp_path)
    made.listen = replace(made.listen, clients=ClientRules(requests_per_s=0))
    try:
        made.app("a-r1-0")
        made.ingress.write(state(made, {ASKED: PRINT, "new.example.net": PRINT}), made.listen)
        made.start()
        yield made
    finally:
        made.close()


def state(box: Machine, challenges: dict[str, str]) -> IngressState:
    """The ingress's state with names that are being proved."""
    return IngressState(
        servers={"a-r1-0": box.server("a-r1-0")}, hosts={A: "a-r1-0"}, domains={SITE: "apps.localhost"},
        challenges=challenges,
    )  # fmt: skip


def ask(box: Machine, host: str, path: str, *, method: str = "GET", tls: bool = False) -> tuple[int, str, str]:
    """The answer to a request."""
    raw = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    return parsed(box.send(raw) if tls else box.send_plain(raw))


@pytest.mark.parametrize("host", [ASKED, ASKED.upper(), f"{ASKED}:80", f"{ASKED}.", "new.example.net"])
def test_a_name_that_is_being_proved(box: Machine, host: str) -> None:
    """Its token comes back with the account's thumbprint, whether or not an app is there."""
    status, head, body = ask(box, host, PATH + TOKEN)
    assert (status, body) == (200, f"{TOKEN}.{PRINT}")
    assert "content-type: application/octet-stream" in head.lower()
    assert "cache-control: no-store" in head.lower()


@pytest.mark.parametrize("host", [A, f"b.{SITE}", SITE, "example.net", f"x.{ASKED}", "flyted.localhost", "127.0.0.1"])
def test_no_other_name(box: Machine, host: str) -> None:
    status, _, body = ask(box, host, PATH + TOKEN)
    assert status != 200
    assert PRINT not in body


@pytest.mark.parametrize(
    "path",
    [
        PATH, PATH[:-1], f"{PATH}{'x' * 129}", f"{PATH}a/b", f"{PATH}../x", f"{PATH}a.b", f"{PATH}%61", f"{PATH}<b>",
        f"/x{PATH}{TOKEN}", f"/.well-known/acme-challengeX/{TOKEN}", f"/.WELL-KNOWN/acme-challenge/{TOKEN}", "/",
        f"/.well-known//acme-challenge/{TOKEN}",
    ],
)  # fmt: skip
def test_no_other_path(box: Machine, path: str) -> None:
    """Everything else of such a name goes on to HTTPS."""
    status, _, body = ask(box, ASKED, path)
    assert status != 200
    assert PRINT not in body


@pytest.mark.parametrize("path", [PATH + TOKEN, PATH, PATH + "x/y?z", PATH + "%2e"])
def test_no_app_answers_an_authority(box: Machine, path: str) -> None:
    """Which follows redirects to HTTPS: an app would get a certificate for its name, and could keep it for later."""
    assert ask(box, A, path, tls=True)[0] == 404
    assert ask(box, ASKED, path, tls=True)[0] == 404
    app = next(each for each in box._apps if each.name == "a-r1-0")
    assert app.seen == []
    assert ask(box, A, "/.well-known/other", tls=True)[0] == 200


def test_it_ends_with_the_order(box: Machine) -> None:
    """While HAProxy runs; another account's thumbprint takes the place of the first one."""
    other = PRINT[::-1]
    apply(box, state(box, {ASKED: other}))
    assert ask(box, ASKED, PATH + TOKEN)[2] == f"{TOKEN}.{other}"
    assert ask(box, "new.example.net", PATH + TOKEN)[0] == 421
    apply(box, state(box, {}))
    assert ask(box, ASKED, PATH + TOKEN)[0] == 404
