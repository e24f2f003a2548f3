"""Reads the logins of registries, and gets tokens for them.

Sources: Docker's config.json, containers-auth.json(5), the distribution project's specification of token
authentication.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from .failed import Failed, Unavailable, printable
from .http_get import Reply
from .reference import registry
from .url import Url, parse
from .words import EX_CONFIG, EX_DATAERR, EX_NOPERM

_MOST_ANSWER = 1 << 20
_MOST_CHALLENGE = 8192
_CHALLENGE = re.compile(r"(?:^|,)\s*(?P<scheme>[A-Za-z]+)(?:\s+(?=[A-Za-z_]+\s*=)|\s*(?:$|,))")
_PARAMETER = re.compile(r"([A-Za-z_]+)\s*=\s*(?:\"([^\"\\]*)\"|([^\s,\"]+))")
_TOKEN = re.compile(r"[!-~]{1,65536}")


@dataclass(frozen=True)
class Login:
    """A user and a password, or an identity token, which is exchanged for other tokens."""

    user: str = ""
    password: str = ""
    identity: str = ""

    @property
    def basic(self) -> str:
        """The header of a login with password, empty if there is none."""
        if not self.user:
            return ""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def read(text: bytes) -> dict[str, Login]:
    """Return the logins in a config.json, by registry, or by ``REGISTRY/PATH`` for a part of one; see :func:`find`.

    Raises :class:`Failed` for a text that is none, and for logins that a helper of Docker's keeps. No value is in a
    message.
    """
    try:
        data = json.loads(text)
        found = {_key(key): _login(value) for key, value in data.get("auths", {}).items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise Failed(EX_CONFIG, 'the secret is not a Docker config.json with "auths"') from None
    kept = any(login.user or login.identity for login in found.values())  # a helper's registries have empty entries
    if not kept and any(data.get(key) for key in ("credsStore", "credHelpers")):
        raise Failed(EX_CONFIG, "the config.json has no logins: a Docker credential helper keeps them")
    return found


def find(logins: Mapping[str, Login], registry: str, path: str) -> Login:
    """Return the login for a repository: that of the longest part of its name that has one."""
    name = f"{registry}/{path}"
    while name not in logins and "/" in name:
        name = name.rpartition("/")[0]
    return logins.get(name, Login())


def _key(text: str) -> str:
    """Return the registry of a key, with the path behind it.

    The key may be an address as https://index.docker.io/v1/, which names all of a registry. Docker keeps tokens of its
    own under that address, with access-token or refresh-token at its end: no repository has such a name.
    """
    host, _, path = re.sub(r"^https?://", "", text).partition("/")
    path = path.strip("/")
    return registry(host) + (f"/{path}" if path not in ("", "v1", "v2") else "")


def _login(value: dict[str, Any]) -> Login:
    user, password, identity = (value.get(key) or "" for key in ("username", "password", "identitytoken"))
    if not user and value.get("auth"):
        user, _, password = base64.b64decode(value["auth"], validate=True).decode().partition(":")
    if not all(isinstance(each, str) for each in (user, password, identity)):
        raise TypeError
    return Login(user, password.rstrip("\0"), identity)


class Authorization:
    """The header for one repository of a registry, renewed when the registry asks for it. For several threads.

    ``path``: of the repository; "" for no particular one.
    """

    def __init__(self, server: Url, path: str, login: Login, ask: Callable[[Url, dict[str, str], str], Reply]) -> None:
        self.header = ""
        self._server, self._path, self._login, self._ask = server, path, login, ask
        self._lock = threading.Lock()

    def renew(self, challenges: list[str], used: str) -> None:
        """Make a header other than ``used``, which was refused with these challenges (WWW-Authenticate).

        Raises :class:`Failed` if there can be no other one.
        """
        with self._lock:
            if self.header != used:
                return  # another thread was faster
            wanted = _challenges(challenges)
            if "bearer" in wanted:
                self.header = f"Bearer {self._token(wanted['bearer'])}"
            elif "basic" in wanted and self._login.basic not in ("", used):
                self.header = self._login.basic
            else:
                raise self.refused()

    def _token(self, wanted: dict[str, str]) -> str:
        realm = self._realm(wanted.get("realm", ""))
        fields = {"scope": f"repository:{self._path}:pull"} if self._path else {}
        if wanted.get("service"):
            fields["service"] = wanted["service"]
        headers, form = {}, ""
        if self._login.identity:
            fields |= {"grant_type": "refresh_token", "refresh_token": self._login.identity, "client_id": "flyted"}
            form = urlencode(fields)
        else:
            joined = "&" if "?" in realm.target else "?"
            realm = Url(realm.scheme, realm.host, realm.port, f"{realm.target}{joined}{urlencode(fields)}")
            headers = {"Authorization": self._login.basic} if self._login.basic else {}
        with self._ask(realm, headers, form) as reply:
            if reply.status in (400, 401, 403):
                raise self.refused()
            if reply.status != 200:
                raise Unavailable(
                    f"{realm.server}, which issues tokens for {self._server.server}, answers {reply.status}"
                )
            return _token_in(reply.body(_MOST_ANSWER), realm)

    def _realm(self, text: str) -> Url:
        try:
            realm = parse(text)
        except ValueError as error:
            raise Failed(EX_DATAERR, f"{self._server.server} names no token server: {error}") from None
        if realm.scheme != "https" and realm.origin != self._server.origin:
            raise Failed(EX_DATAERR, f"{self._server.server} wants the login sent to {realm.server} over plain HTTP")
        return realm

    def refused(self) -> Failed:
        """Return the error of a repository that is closed to this login, or wants one."""
        if self._login.basic or self._login.identity:
            return Failed(EX_NOPERM, f"{self._server.server} refuses the login for {self._path}")
        return Failed(EX_NOPERM, f"{self._server.server} wants a login for {self._path}, or has no such image")


def _challenges(headers: list[str]) -> dict[str, dict[str, str]]:
    """Return scheme → parameters of headers as ``Bearer realm="…",service="…", Basic realm="…"`` (RFC 9110)."""
    found: dict[str, dict[str, str]] = {}
    for header in headers:
        text = header[:_MOST_CHALLENGE]
        begins = list(_CHALLENGE.finditer(text))
        for number, begin in enumerate(begins):
            end = begins[number + 1].start() if number + 1 < len(begins) else len(text)
            parameters = _PARAMETER.findall(text[begin.end() : end])
            found.setdefault(begin["scheme"].lower(), {name.lower(): one or two for name, one, two in parameters})
    return found


def _token_in(body: bytes, realm: Url) -> str:
    try:
        data = json.loads(body)
        token = data.get("token") or data.get("access_token")
        if _TOKEN.fullmatch(token):
            return str(token)
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise Failed(EX_DATAERR, f"{printable(realm.server)} answers without a token")
