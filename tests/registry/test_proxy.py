"""Pulls through proxies on this machine, from a registry with TLS of its own behind them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.registry import reach, url, words
from flyted.registry.failed import Failed, Unavailable
from flyted.registry.pull import Pull
from tests.registry import proxy as proxies
from tests.registry.proxy import Proxy
from tests.registry.server import Registry
from tests.registry.test_program import certificate, of, ran
from tests.registry.test_pull import failure

pytestmark = pytest.mark.slow


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry with TLS that this process trusts, and that a setting names."""
    file = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    reach._context.cache_clear()
    with Registry().serving(context) as serving:
        serving.add_image("v1")
        yield serving
    reach._context.cache_clear()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxies.serving("alice", "p@ss: word") as serving:
        yield serving


def pull(registry: Registry, folder: Path, timeout_s: float = 5) -> Pull:
    """A pull by the setting that the registry is asked by HTTPS."""
    found = registry.pull(folder / "blobs", timeout_s=timeout_s)
    found.reach.mirrors["registry.test"] = url.parse(f"https://127.0.0.1:{registry.port}")  # type: ignore[index]
    found.__post_init__()
    return found


LOGIN = "alice:p%40ss%3A%20word"


def test_all_goes_through_it(secure: Registry, proxy: Proxy, tmp_path: Path) -> None:
    """By the program: CONNECT for each request, with the proxy's login; TLS is between us and the registry."""
    environment = {"SSL_CERT_FILE": str(tmp_path / "certificate.pem"), "HTTPS_PROXY": proxy.address(LOGIN)}
    status, output = ran(tmp_path, *of(secure, "https"), **environment)
    assert status == 0, output
    assert len(proxy.heads) == len(secure.asked) == 4
    assert {head.partition("\r\n")[0] for head in proxy.heads} == {f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1"}
    assert all(f"Host: 127.0.0.1:{secure.port}\r\n" in head for head in proxy.heads)
    assert b"/v2/" not in proxy.carried
    assert not [headers for _, headers in secure.asked if "Proxy-Authorization" in headers]


def test_a_certificate_that_nobody_trusts_behind_it(secure: Registry, proxy: Proxy, tmp_path: Path) -> None:
    """As that of a proxy that reads along: it is not asked again."""
    status, output = ran(tmp_path, *of(secure, "https"), HTTPS_PROXY=proxy.address(LOGIN), SSL_CERT_FILE="/none")
    assert (status, len(output), len(proxy.heads)) == (words.EX_UNAVAILABLE, 1, 1)
    assert "is not trusted: self-signed certificate" in output[-1]


@pytest.mark.parametrize("login", ["", "alice:wrong", "alice"])
def test_a_login_that_is_missing_or_wrong(
    secure: Registry, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    """It is said at once, and names no password."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.address(login))
    found = failure(pull(secure, tmp_path).pull)
    assert (found.status, isinstance(found, Unavailable)) == (words.EX_UNAVAILABLE, False)
    assert "requires a login, or another one (the proxy answers 407 Who? for" in str(found)
    assert "wrong" not in str(found)
    assert (len(proxy.heads), secure.asked) == (1, [])


@pytest.mark.parametrize(
    ("answer", "tries", "said"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", 3, "the proxy answers 502 Bad Gateway"),
        (b"HTTP/1.1 503 \x1b[2J\r\n\r\n", 3, "the proxy answers 503"),
        (b"HTTP/1.1 429 Slowly\r\n\r\n", 3, "the proxy answers 429 Slowly"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", 1, "the proxy answers 403 Forbidden"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", 3, "the proxy answers 302"),
        (b"SSH-2.0-OpenSSH_10.0\r\n", 3, "does not answer like one"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", 3, "does not answer like one"),
        (b"HTTP/1.1 200 OK\r\n\r\n", 3, "broke off"),
    ],
)  # fmt: skip
def test_what_a_proxy_answers_that_makes_no_way(
    secure: Registry,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    tries: int,
    said: str,
) -> None:
    """What may pass is tried again, what it forbids is not."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.address(LOGIN))
    proxy.answer = answer
    found = failure(pull(secure, tmp_path).pull)
    assert found.status == words.EX_UNAVAILABLE
    assert said in str(found)
    assert (len(proxy.heads), secure.asked) == (tries, [])


def test_one_that_stalls(secure: Registry, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the request and says nothing."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.address(LOGIN))
    proxy.stalls = True
    found = failure(pull(secure, tmp_path, timeout_s=0.3).pull)
    assert (found.status, str(found)) == (words.EX_UNAVAILABLE, f"127.0.0.1:{secure.port} stalled")
    assert len(proxy.heads) == 3


def test_one_that_is_not_there(secure: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(Failed, match=r"the proxy 127\.0\.0\.1:9 cannot be reached: Connection refused"):
        pull(secure, tmp_path).pull()


def test_a_registry_that_needs_none(
    secure: Registry, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.address(LOGIN))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pull(secure, tmp_path).pull()
    assert proxy.heads == []
