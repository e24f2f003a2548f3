"""To whom a login is said, and what follows a refusal."""

from __future__ import annotations

import base64
import json
import threading
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from flyted.registry import logins, url, words
from flyted.registry.failed import Failed
from flyted.registry.logins import Login
from tests.registry.server import ALICE, BASIC, Handler, Registry, layer_of
from tests.registry.test_pull import failure

pytestmark = pytest.mark.slow


class TestLogins:
    """401, and what follows."""

    @staticmethod
    def wants(registry: Registry, header: str, challenge: str, **also: Any) -> None:
        registry.add_image("v1")
        registry.rules["^/v2/"] = lambda h: (
            False if h.headers.get("Authorization") == header else h.reply(401, b"{}", WWW_Authenticate=challenge)
        )

    def test_basic(self, registry: Registry, tmp_path: Path) -> None:
        self.wants(registry, BASIC, 'Basic realm="r"')
        registry.pull(tmp_path, login=ALICE).pull()
        assert "Authorization" not in registry.asked[0][1]  # not before it is asked for

    def test_a_token(self, registry: Registry, tmp_path: Path) -> None:
        """With the login, for this repository only, whatever the registry would like to have."""
        challenge = f'Bearer realm="{registry.address}/token?x=1",service="s p",scope="repository:other:push"'
        self.wants(registry, "Bearer t0ken", challenge)
        registry.rules["^/token"] = lambda h: h.reply(200, b'{"token": "t0ken"}')
        registry.pull(tmp_path, login=ALICE).pull()
        ((path, headers),) = [each for each in registry.asked if each[0].startswith("/token")]
        assert urllib.parse.parse_qs(path.partition("?")[2]) == {
            "x": ["1"], "service": ["s p"], "scope": ["repository:team/app:pull"],
        }  # fmt: skip
        assert headers["Authorization"] == BASIC

    def test_a_token_without_login(self, registry: Registry, tmp_path: Path) -> None:
        self.wants(registry, "Bearer t", f'Bearer realm="{registry.address}/token"')
        registry.rules["^/token"] = lambda h: h.reply(200, b'{"access_token": "t"}')
        registry.pull(tmp_path).pull()
        assert "Authorization" not in registry.asked_for("^/token")[0]

    def test_an_identity_token(self, registry: Registry, tmp_path: Path) -> None:
        forms: list[str] = []
        self.wants(registry, "Bearer t", f'Bearer realm="{registry.address}/token",service=s')

        def token(handler: Handler) -> None:
            forms.append(handler.form)
            handler.reply(200, b'{"access_token": "t"}')

        registry.rules["^/token"] = token
        registry.pull(tmp_path, login=Login(identity="id")).pull()
        assert urllib.parse.parse_qs(forms[0])["refresh_token"] == ["id"]

    def test_a_token_that_expires(self, registry: Registry, tmp_path: Path) -> None:
        """A new one is fetched, once for all threads."""
        layers = tuple(layer_of(f"l{number}") for number in range(9))
        registry.add_image("v1", layers=layers)
        given: list[str] = []
        lock = threading.Lock()

        def tokens(handler: Handler) -> None:
            with lock:
                given.append(f"t{len(given)}")
            handler.reply(200, json.dumps({"token": given[-1]}).encode())

        def guard(handler: Handler) -> Any:
            if len(registry.asked_for("blobs/")) == 4:
                given.append("none")  # nobody has it
            if given and handler.headers.get("Authorization") == f"Bearer {given[-1]}":
                return False
            return handler.reply(401, WWW_Authenticate=f'Bearer realm="{registry.address}/token"')

        registry.rules["^/token"] = tokens
        registry.rules["^/v2/"] = guard
        registry.pull(tmp_path).pull()
        assert len(registry.asked_for("^/token")) == 2

    @pytest.mark.parametrize("login", [ALICE, Login(), Login(identity="x")])
    @pytest.mark.parametrize(
        "challenge", ["Basic", "Bearer", "", "Negotiate", "Digest realm=x", 'Bearer realm="x', "," * 9000]
    )
    def test_401_without_end(self, registry: Registry, tmp_path: Path, login: Login, challenge: str) -> None:
        """Every token is refused, or there is none."""
        full = f'Bearer realm="{registry.address}/token"' if challenge == "Bearer" else challenge
        registry.rules["^/token"] = lambda h: h.reply(200, b'{"token": "t"}')
        registry.rules["^/v2/"] = lambda h: h.reply(401, WWW_Authenticate=full)
        found = failure(registry.pull(tmp_path, login=login).pull)
        assert found.status in (words.EX_NOPERM, words.EX_DATAERR)
        assert len(registry.asked) <= 3

    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_a_login_that_is_refused(self, registry: Registry, tmp_path: Path, status: int) -> None:
        self.wants(registry, "x", f'Bearer realm="{registry.address}/token"')
        registry.rules["^/token"] = lambda h: h.reply(
            status, WWW_Authenticate=f'Bearer realm="{registry.address}/token"'
        )
        found = failure(registry.pull(tmp_path, login=ALICE).pull)
        assert found.status == words.EX_NOPERM
        assert "refuses the login" in str(found)
        assert len(registry.asked_for("^/token")) == 1

    def test_a_password_that_is_wrong(self, registry: Registry, tmp_path: Path) -> None:
        self.wants(registry, "Basic x", "Basic")
        assert "refuses the login" in str(failure(registry.pull(tmp_path, login=ALICE).pull))

    def test_no_login(self, registry: Registry, tmp_path: Path) -> None:
        self.wants(registry, BASIC, "Basic")
        assert "wants a login" in str(failure(registry.pull(tmp_path).pull))

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"{}",
            b"[]",
            b'{"token": 5}',
            b'{"token": ""}',
            b'{"token": "a\\r\\nX: y"}',
            b'{"token": "a b"}',
            b"[" * 99_999,
            b'{"token": "%s"}' % (b"x" * 70_000),
        ],
    )
    def test_what_is_no_token(self, registry: Registry, tmp_path: Path, answer: bytes) -> None:
        self.wants(registry, "x", f'Bearer realm="{registry.address}/token"')
        registry.rules["^/token"] = lambda h: h.reply(200, answer)
        assert "without a token" in str(failure(registry.pull(tmp_path).pull))

    def test_the_login_is_not_sent_over_plain_http(self, registry: Registry, tmp_path: Path) -> None:
        with Registry().serving() as other:
            registry.rules["."] = lambda h: h.reply(401, WWW_Authenticate=f'Bearer realm="{other.address}/token"')
            pull = registry.pull(tmp_path, login=ALICE)
            pull._client.reach.mirrors["other"] = url.parse(other.address)  # type: ignore[index]
            assert "over plain HTTP" in str(failure(pull.pull))
            assert other.asked == []

    def test_a_mirror_does_not_get_the_registrys_login(self, registry: Registry, tmp_path: Path) -> None:
        """It has been given one for registry.test, and is asked at 127.0.0.1."""
        self.wants(registry, BASIC, "Basic")
        failure(registry.pull(tmp_path).pull)
        assert not [headers for _, headers in registry.asked if "Authorization" in headers]


class TestConfigJson:
    """Docker's file of logins."""

    @staticmethod
    def read(**auths: Any) -> dict[str, Login]:
        return logins.read(json.dumps({"auths": auths}).encode())

    def test_its_forms(self) -> None:
        auth = {"auth": base64.b64encode(b"u:p:w").decode()}
        assert self.read(**{"https://index.docker.io/v1/": auth}) == {"docker.io": Login("u", "p:w")}
        assert self.read(**{"ghcr.io": {"username": "u", "password": "p"}}) == {"ghcr.io": Login("u", "p")}
        assert self.read(**{"localhost:5000": {"identitytoken": "t", "auth": ""}}) == {
            "localhost:5000": Login(identity="t")
        }
        assert self.read(**{"ghcr.io": {}}) == {"ghcr.io": Login()}

    def test_tokens_that_docker_keeps_are_no_logins(self) -> None:
        """`docker login` of today, by a browser: three entries for one registry, in this order."""
        hub = "https://index.docker.io/v1/"
        names = {
            f"{hub}{end}": {"username": "u", "password": f"p{end}"} for end in ("", "access-token", "refresh-token")
        }
        assert logins.find(self.read(**names), "docker.io", "library/nginx") == Login("u", "p")

    def test_the_longest_name_counts(self) -> None:
        """As podman has it: a login for a folder of a registry."""
        names = ("r.example", "r.example/team", "r.example/team/app")
        found = self.read(**{name: {"username": name, "password": "p"} for name in reversed(names)})
        paths = {"other": 0, "team/x/y": 1, "teams/app": 0, "team/app": 2}
        assert {path: names.index(logins.find(found, "r.example", path).user) for path in paths} == paths
        assert logins.find(found, "r.example:5000", "team/app") == Login()

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"[]",
            b"{",
            b'{"auths": 5}',
            b'{"auths": {"x": 5}}',
            b'{"auths": {"a b": {}}}',
            b'{"auths": {"x": {"auth": "s3cret!"}}}',
            b'{"auths": {"x": {"username": 5}}}',
            b"[" * 99_999,
            b'{"auths": {"x": {"auth": "/w=="}}}',
        ],
    )
    def test_what_is_none(self, text: bytes) -> None:
        with pytest.raises(Failed, match=r"not a Docker config\.json") as caught:
            logins.read(text)
        assert "s3cret" not in str(caught.value)

    def test_a_helper(self) -> None:
        with pytest.raises(Failed, match="helper"):
            logins.read(b'{"auths": {}, "credsStore": "desktop"}')
        with pytest.raises(Failed, match="helper"):  # so Docker writes it
            logins.read(b'{"auths": {"https://index.docker.io/v1/": {}}, "credsStore": "desktop"}')
