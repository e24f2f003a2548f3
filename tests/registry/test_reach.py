"""Where a pull may go."""

from __future__ import annotations

import base64
import ipaddress
from pathlib import Path
from typing import Any

import pytest

from flyted.plan.sandbox import CLOSED_NETWORKS
from flyted.registry import url, words
from flyted.registry.failed import Failed, Unavailable
from flyted.registry.reach import Reach, closed
from tests.registry.server import ALICE, BASIC, NAME, Handler, Registry, digest
from tests.registry.test_pull import failure

pytestmark = pytest.mark.slow


def test_what_is_closed_to_apps_is_closed_to_pulls() -> None:
    for network in map(ipaddress.ip_network, CLOSED_NETWORKS):
        assert closed(str(network.network_address)), network
        assert closed(str(network.broadcast_address)), network


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "0.0.0.0",
        "169.254.169.254",
        "fe80::1%lo",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "fd00:ec2::254",
        "100.100.100.200",
    ],
)
def test_an_address_of_this_machine_alone(address: str) -> None:
    assert closed(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "fd00::1"])
def test_other_addresses_are_open(address: str) -> None:
    assert not closed(address)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "169.254.169.254",
        "[fe80::1]",
        "[64:ff9b::127.0.0.1]",
    ],
)
class TestClosed:
    """Every way to write an address that only this machine reaches."""

    def test_a_registry_there(self, host: str) -> None:
        with pytest.raises(Failed, match="only this machine can reach") as caught:
            Reach().connect(url.parse(f"https://{host}:9/v2/"))
        assert caught.value.status == words.EX_REFUSED

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_redirect_there(self, registry: Registry, tmp_path: Path, host: str, scheme: str) -> None:
        registry.add_image("v1")
        registry.rules["blobs/"] = lambda h: h.reply(307, Location=f"{scheme}://{host}:9/secret")
        found = failure(registry.pull(tmp_path).pull)
        assert found.status == words.EX_REFUSED

    def test_a_place_for_tokens_there(self, registry: Registry, tmp_path: Path, host: str) -> None:
        registry.rules["."] = lambda h: h.reply(401, WWW_Authenticate=f'Bearer realm="https://{host}:9/token"')
        assert failure(registry.pull(tmp_path, login=ALICE).pull).status == words.EX_REFUSED


def test_a_name_that_has_both_is_asked_at_the_open_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(2, 1, 6, "", (host, 443)) for host in ("127.0.0.1", "192.0.2.1", "169.254.169.254")]
    tried: list[Any] = []

    def connect(address: Any, timeout: float) -> None:
        tried.append(address[0])
        raise OSError("unreachable")

    monkeypatch.setattr("flyted.registry.reach.socket.getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr("flyted.registry.reach.socket.create_connection", connect)
    with pytest.raises(Unavailable):
        Reach().connect(url.parse("https://two.example/"))
    assert tried == ["192.0.2.1"]


def test_no_registry_is_asked_over_plain_http_by_itself() -> None:
    with pytest.raises(Failed, match="plain HTTP"):
        Reach({"a": url.parse("https://10.0.0.1")}).connect(url.parse("http://10.0.0.1/"))


@pytest.mark.parametrize(
    "location",
    [
        "",
        "file:///etc/passwd",
        "ftp://x/",
        "https://user:pw@x/",
        "https://",
        "https://x:0/",
        "https://x:99999/",
        "//",
        "https://a b/",
        "https://x/\x7f",
        "gopher://x:70/",
    ],
)
def test_a_redirect_that_is_no_address(registry: Registry, tmp_path: Path, location: str) -> None:
    registry.rules["."] = lambda h: h.reply(302, Location=location)
    found = failure(registry.pull(tmp_path).pull)
    assert found.status in (words.EX_REFUSED, words.EX_DATAERR)  # the last: relative to the path, without end


@pytest.mark.parametrize("host", [".example.com", "a..b", ".", "a" * 64 + ".example.com"])
def test_a_host_that_is_no_name(host: str) -> None:
    """Behind a proxy nobody resolves it, and TLS takes no such name."""
    with pytest.raises(ValueError, match="its host is not a name"):
        url.parse(f"https://{host}/x")
    assert url.parse("https://example.com./x").host == "example.com."


def test_redirects_without_end(registry: Registry, tmp_path: Path) -> None:
    registry.rules["."] = lambda h: h.reply(302, Location=f"{h.path}x")
    assert "redirects more than 5 times" in str(failure(registry.pull(tmp_path).pull))
    assert len(registry.asked) == 6


def test_a_redirect_to_itself(registry: Registry, tmp_path: Path) -> None:
    registry.rules["."] = lambda h: h.reply(301, Location=h.path)
    assert "redirects more than" in str(failure(registry.pull(tmp_path).pull))


def test_another_server_does_not_see_the_login(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blobs lie elsewhere, as on object stores; that one is open here because a setting names it."""
    image = registry.add_image("v1")
    with Registry(blobs=registry.blobs).serving() as store:
        registry.rules["."] = lambda h: (
            False if h.headers.get("Authorization") == BASIC else h.reply(401, WWW_Authenticate="Basic")
        )
        registry.rules["blobs/"] = lambda h: h.reply(307, Location=f"{store.address}{h.path}?signature=x")
        pull = registry.pull(tmp_path, login=ALICE)
        pull._client.reach.mirrors["other"] = url.parse(store.address)  # type: ignore[index]
        assert pull.pull() == image["digest"]
        assert len(store.asked) == 3
        assert not [headers for _, headers in store.asked if "Authorization" in headers]
        assert registry.asked_for("blobs/")[0]["Authorization"] == BASIC


def test_a_mirror_in_a_folder(registry: Registry, tmp_path: Path) -> None:
    """As Harbor's and Artifactory's: https://mirror/folder."""
    registry.path = "hub/team/app"
    image = registry.add_image("v1")
    pull = registry.pull(tmp_path)
    pull.reach.mirrors["registry.test"] = url.parse(f"{registry.address}/hub/")  # type: ignore[index]
    pull.__post_init__()
    assert pull.pull() == image["digest"]


class TestProxy:
    """A proxy of the environment."""

    def test_plain_http(self, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It gets whole addresses, its own login, and the registry's requests."""
        image = registry.add_image("v1")
        with Registry().serving() as proxy:

            def forward(handler: Handler) -> None:
                handler.path = handler.path.removeprefix("http://10.255.255.1")
                handler.content({**registry.manifests, **registry.blobs}[handler.path.rpartition("/")[2]])

            proxy.rules["^http://10.255.255.1/v2/team/app/"] = forward
            monkeypatch.setenv("http_proxy", f"http://u:p%40@127.0.0.1:{proxy.port}")
            pull = registry.pull(tmp_path)
            pull.reach.mirrors["registry.test"] = url.parse("http://10.255.255.1")  # type: ignore[index]
            pull.__post_init__()
            assert pull.pull() == image["digest"]
            assert proxy.asked[0][1]["Proxy-Authorization"] == "Basic " + base64.b64encode(b"u:p@").decode()

    def test_a_closed_address_through_it(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", registry.address)
        with pytest.raises(Failed, match="only this machine"):
            Reach().connect(url.parse("https://169.254.169.254/"))
        assert registry.asked == []

    @pytest.mark.parametrize(
        "text", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://", "http://x:99999", "http://[::1"]
    )
    def test_what_is_no_proxy(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", text)
        with pytest.raises(Failed, match="the proxy for https") as caught:
            Reach().connect(url.parse("https://10.0.0.1/"))
        assert caught.value.status == words.EX_CONFIG

    def test_one_that_refuses(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", registry.address)
        with pytest.raises(Unavailable, match="the proxy answers 501"):
            Reach(timeout_s=2).connect(url.parse("https://10.0.0.1/"))

    def test_no_proxy(self, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        registry.add_image("v1")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        registry.pull(tmp_path).pull()


def test_names_that_nobody_has(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be resolved"):
        Reach().connect(url.parse("https://nobody.invalid/"))


def test_the_blob_of_a_name(registry: Registry) -> None:
    """The harness is a registry."""
    assert registry.add_blob(b"x")["digest"] == digest(b"x")
    assert NAME.endswith(registry.path)
