"""The page about a domain's authority: what it hands out, to whom it says what, and what it never does."""

from __future__ import annotations

import asyncio
import datetime as dt
import plistlib
import ssl
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.authority import fingerprint
from flyted.contract.errors import NotFound
from flyted.gateway.pages.authority import answer
from flyted.gateway.reply import Reply
from flyted.host import ca

DOMAIN, HOST = "apps.box.lan", "flyted.apps.box.lan:8080"
PEM = ca.new_ca(DOMAIN, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), alone=True).cert_pem.decode()
DER = ssl.PEM_cert_to_DER_cert(PEM)


def get(path: str, folder: Path) -> tuple[dict[str, str], bytes]:
    """The headers and the body of an answer; its status is 200."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    asyncio.run(answer(DOMAIN, HOST, path, Reply(send, receive), folder))
    assert sent[0]["status"] == 200
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}, sent[1]["body"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As flyted writes it."""
    (tmp_path / f"{DOMAIN}.pem").write_text(PEM)
    return tmp_path


def test_the_certificate(folder: Path) -> None:
    """As DER, which Android, Windows and Firefox take."""
    headers, body = get("/ca.crt", folder)
    assert (headers["content-type"], body) == ("application/x-x509-ca-cert", DER)
    assert headers["content-disposition"] == f'attachment; filename="{DOMAIN}.crt"'


def test_the_profile(folder: Path) -> None:
    """One root, the same at each call, so that it replaces itself; another domain's is another one."""
    headers, body = get("/ca.mobileconfig", folder)
    assert headers["content-type"] == "application/x-apple-aspen-config"
    found = plistlib.loads(body)
    (root,) = found["PayloadContent"]
    assert (root["PayloadType"], root["PayloadContent"]) == ("com.apple.security.root", DER)
    assert found["PayloadType"] == "Configuration"
    assert found["PayloadUUID"] != root["PayloadUUID"]
    assert get("/ca.mobileconfig", folder)[1] == body


def test_the_page(folder: Path) -> None:
    """It says whom the authority signs for, and asks to compare its fingerprint; no script, no frame."""
    headers, body = get("/", folder)
    text = body.decode()
    assert f"SHA-256 {fingerprint(DER)}" in text
    assert f"flytectl ca show {DOMAIN}" in text
    assert f"curl -o $f http://{HOST}/ca.crt" in text
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "<script" not in text


def test_an_authority_that_is_gone(tmp_path: Path) -> None:
    """Between a change of the domain and the ingress's."""
    for path in ("/", "/ca.crt", "/ca.mobileconfig"):
        with pytest.raises(NotFound, match=r"does not sign for apps\.box\.lan"):
            get(path, tmp_path)
