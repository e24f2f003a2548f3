"""Mirrors that are asked what they are: real servers on this machine, one of each kind."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyted.registry import url, words
from flyted.registry.mirrors import check
from flyted.registry.reach import Reach
from tests.registry.server import Handler, Registry, drip
from tests.registry.test_program import PROGRAM, certificate

pytestmark = pytest.mark.slow

TOKENS = 'Bearer realm="http://127.0.0.1:{port}/token",service="it"'


def found(
    capfd: pytest.CaptureFixture[str], mirrors: dict[str, str], seconds: float = 5
) -> dict[str, tuple[str, str]]:
    """What a check says of each."""
    check(Reach({name: url.parse(address) for name, address in mirrors.items()}, timeout_s=3), seconds)
    lines = [line.removeprefix(words.OURS) for line in capfd.readouterr().out.splitlines()]
    read = [words.MIRROR_IS.fullmatch(line) for line in lines]
    assert all(read), lines
    return {each["registry"]: (each["how"], each["text"]) for each in read if each}


def token(status: int, body: bytes = b"") -> Callable[[Handler], Any]:
    """A registry that wants tokens, and what its place for them answers."""

    def rule(handler: Handler) -> None:
        if handler.path.startswith("/token"):
            assert handler.path == "/token?service=it", "no repository is named"
            handler.reply(status, body)
        else:
            handler.reply(401, WWW_Authenticate=TOKENS.format(port=handler.server.registry.port))

    return rule


@pytest.mark.parametrize(
    ("rule", "how", "text"),
    [
        (lambda h: h.reply(200, b"{}"), words.ANSWERS, "answers"),
        (lambda h: h.reply(200), words.ANSWERS, "answers"),
        (lambda h: h.reply(200, b"ok", Docker_Distribution_Api_Version="registry/2.0"), words.ANSWERS, "answers"),
        (token(200, b'{"token": "x"}'), words.ANSWERS, "answers"),
        (token(401), words.LOGIN, "requires a login"),
        (token(503), words.UNREACHABLE, "which issues tokens for"),
        (lambda h: h.reply(401, WWW_Authenticate='Basic realm="x"'), words.LOGIN, "requires a login"),
        (lambda h: h.reply(401), words.LOGIN, "requires a login"),
        (lambda h: h.reply(403), words.LOGIN, "refuses those who have no login"),
        (lambda h: h.reply(200, b"<html>Welcome to nginx</html>"), words.OTHER, "is not a registry"),
        (lambda h: h.reply(200, b"[]"), words.OTHER, "is not a registry"),
        (lambda h: h.reply(404, b"{}"), words.OTHER, "it answers 404 to /v2/"),
        (lambda h: h.reply(502), words.UNREACHABLE, "answers 502"),
        (lambda h: h.reply(429), words.UNREACHABLE, "answers 429"),
        (lambda h: h.reply(307, Location="https://127.0.0.2/"), words.UNREACHABLE, "only this machine can reach"),
        (lambda h: h.wfile.write(b"SSH-2.0-OpenSSH_10.0\r\n"), words.UNREACHABLE, "broke off"),
    ],
)  # fmt: skip
def test_what_one_answers(
    registry: Registry, capfd: pytest.CaptureFixture[str], rule: Callable[[Handler], Any], how: str, text: str
) -> None:
    """To GET /v2/, whatever folder of it is the mirror; no login is sent."""
    registry.rules["."] = rule
    got = found(capfd, {"ghcr.io": f"{registry.address}/hub"})["ghcr.io"]
    assert got[0] == how
    assert text in got[1]
    assert registry.asked[0][0] == "/v2/"
    assert "Authorization" not in registry.asked[0][1]


def test_certificates(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody trusts, and a server that does not speak TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    with Registry().serving(context) as secure, Registry().serving() as plain:
        got = found(capfd, {name: f"https://127.0.0.1:{each.port}" for name, each in (("a", secure), ("b", plain))})
    assert got["a"][0] == words.UNTRUSTED
    assert "is not trusted: self-signed certificate" in got["a"][1]
    assert got["b"] == (words.UNREACHABLE, f"127.0.0.1:{plain.port} does not speak TLS")


def test_none_waits_for_another(registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    """Forty mirrors, of which some stall: it takes no longer than it may, and each has a line."""
    registry.rules["."] = lambda h: h.reply(200, b"{}")
    with Registry().serving() as slow:
        slow.rules["."] = lambda h: drip(h, b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", b" ")
        mirrors = {f"m{number}": registry.address for number in range(36)}
        mirrors |= {f"slow{number}": slow.address for number in range(4)}
        began = time.monotonic()
        got = found(capfd, mirrors | {"nobody": "https://127.0.0.1:9", "unknown": "https://nobody.invalid"}, 2)
        assert time.monotonic() - began < 10
    assert {name for name, (how, _) in got.items() if how == words.ANSWERS} == {f"m{number}" for number in range(36)}
    assert all(
        got[f"slow{number}"] == (words.UNREACHABLE, f"127.0.0.1:{slow.port} does not answer") for number in range(4)
    )
    assert "Connection refused" in got["nobody"][1]
    assert "cannot be resolved" in got["unknown"][1]


def test_the_program(registry: Registry) -> None:
    """It needs neither a folder nor the name of an image, and ends well whatever it finds."""
    options = [words.CHECK, words.MIRROR, f"ghcr.io={registry.address}"]
    environment = {"PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-I", PROGRAM, *options], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{words.OURS}mirror ghcr.io other: 127.0.0.1:{registry.port} is not a registry")
