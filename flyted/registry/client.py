"""Sends requests to one repository of a registry: logs in, follows redirects, and retries (OCI distribution-spec).

Not skopeo: this client has 1,400 lines, runs as a user without any rights, and knows the rules of this machine: it
connects to no address that only the machine can reach (checked when it connects), sends the login to no other server,
and limits sizes, redirects, refused logins and silence. skopeo is a package of 27 MB (1.9 in Debian 12). It follows
redirects to any address; it reads ``/etc/containers``, so that files of another program would change what flyted
does; and its layers would still have to be unpacked. What would change this decision: signatures of images that have
to be verified, or registries with other protocols.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from .failed import Failed, Unavailable, printable, say
from .http_get import Reply, request
from .logins import Authorization, Login, find
from .reach import Reach
from .reference import DOCKER_HUB, Reference
from .url import Url, parse
from .words import EX_DATAERR, EX_NOPERM, EX_NOTFOUND, EX_REFUSED

_T = TypeVar("_T")
_DOCKER_HUBS_SERVER = "registry-1.docker.io"
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_LONGEST_WAIT_S = 60
_MOST_ANSWER = 1 << 16


@dataclass(frozen=True)
class Retries:
    """How often a request is made, and how long the first wait is; each later one is twice as long."""

    tries: int = 5
    first_wait_s: float = 1

    def run(self, work: Callable[[], _T], stop: threading.Event) -> _T:
        """Return what ``work`` returns; repeat it if it raises :class:`Unavailable`.

        That is raised in the end, and after ``stop`` was set.
        """
        for number in range(self.tries - 1):
            try:
                return work()
            except Unavailable as failure:
                wait = max(min(failure.wait, _LONGEST_WAIT_S), self.first_wait_s * 2**number)
                say(f"{failure}; trying again in {wait:.0f} s")
                if stop.wait(wait):
                    raise
        return work()


@dataclass
class Client:
    """One repository: ``get`` is the only request that there is."""

    reference: Reference
    reach: Reach
    logins: Mapping[str, Login] = field(default_factory=dict)

    def __post_init__(self) -> None:
        registry = self.reference.registry
        mirror = self.reach.mirrors.get(registry)
        self._server = mirror or parse(f"https://{_DOCKER_HUBS_SERVER if registry == DOCKER_HUB else registry}")
        self._path = f"{self._server.target.strip('/')}/{self.reference.path}".lstrip("/")
        # a mirror is another server: the registry's own login is not for it
        login = find(self.logins, self._server.server if mirror else registry, self._path)
        self._followed = functools.partial(followed, self.reach)
        self._authorization = Authorization(self._server, self._path, login, self._followed)

    @property
    def server(self) -> str:
        """The name and port of the server that is asked: the registry's, or its mirror's."""
        return self._server.server

    def get(self, what: str, headers: Mapping[str, str]) -> Reply:
        """Return the answer to ``GET /v2/PATH/what``, with status 200, 206 or 416.

        Raises :class:`Failed` for any other status, :class:`Unavailable` if it may pass.
        """
        server = self._server
        url = Url(server.scheme, server.host, server.port, f"/v2/{self._path}/{what}")
        for last in (False, True):
            used = self._authorization.header
            reply = self._followed(url, {**headers, **({"Authorization": used} if used else {})})
            if reply.status != 401 or reply.url.origin != url.origin:
                return self._checked(reply)
            with reply:
                if not last:
                    self._authorization.renew(reply.headers.get_all("WWW-Authenticate") or [], used)
        raise self._authorization.refused()

    def _checked(self, reply: Reply) -> Reply:
        if reply.status in (200, 206, 416):
            return reply
        with reply:
            said = _said(reply)
        server, status = reply.url.server, reply.status
        if status in (401, 403):
            raise Failed(EX_NOPERM, f"{server} refuses {self._path}{said}")
        if status == 404:
            raise Failed(EX_NOTFOUND, f"{server} does not have {self._path}{said}")
        if status == 429 or status >= 500:
            raise Unavailable(f"{server} answers {status}{said}", _wait(reply))
        raise Failed(EX_DATAERR, f"{server} answers {status}{said}")


def followed(reach: Reach, url: Url, headers: Mapping[str, str], form: str = "") -> Reply:
    """Return the answer behind redirects. Another server than the first never sees the login.

    Raises :class:`Failed` for a redirect to an address that is closed, or without end.
    """
    sent, first = dict(headers), url
    for _ in range(_MOST_REDIRECTS + 1):
        reply = request(reach, url, sent, form)
        if reply.status not in _REDIRECTS or form:
            return reply
        with reply:
            target = _target(reply)
        if target.origin != url.origin:
            sent.pop("Authorization", None)
        url = target
    raise Failed(EX_DATAERR, f"{first.server} redirects more than {_MOST_REDIRECTS} times")


def _target(reply: Reply) -> Url:
    try:
        return parse(reply.headers.get("Location") or "", reply.url)
    except ValueError as error:
        raise Failed(EX_REFUSED, f"{reply.url.server} redirects to an address that cannot be used: {error}") from None


def _said(reply: Reply) -> str:
    """Return what a registry says about a failure, as part of a sentence."""
    try:
        first = json.loads(reply.body(_MOST_ANSWER))["errors"][0]
        words = [first[key] for key in ("code", "message") if isinstance(first.get(key), str)]
    except (Failed, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return ""
    return f" ({printable(': '.join(words))})" if words else ""


def _wait(reply: Reply) -> float:
    value = reply.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0
