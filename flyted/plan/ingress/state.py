"""Describes the ingress's wanted state, and what HAProxy has. Pure.

Values are checked when they are made: a name, host, path or reason that reaches a configuration file or HAProxy's
command line contains no character that could end a word or a line there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import TypeVar

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable
from flyted.plan.idle import Traffic
from flyted.plan.ingress.auth import GUARDED
from flyted.plan.ingress.clients import LIMITS, VALUE, ClientRules
from flyted.plan.ingress.no_wake import AWAKE
from flyted.plan.ingress.paths import KEY, OPEN_PATHS, RESTRICTED
from flyted.plan.ingress.start_page import COLD, STEP, STEPS

BACKEND = "apps"
FILES = "/run/flyted/ingress"
HOSTS, TIMEOUTS, UNAVAILABLE = "hosts.map", "timeouts.map", "unavailable.map"
DOMAINS, NAMES, CHALLENGES, AUTHORITIES = "domains.map", "names.map", "challenges.map", "authorities.map"
REDIRECTS, STICKY, KEPT = "redirects.map", "sticky.map", "kept.map"
CALLERS, CALLS = "callers.map", "calls.map"
WATCHED = "watched.map"
RATE = "/rate"
"""In it, what follows a pool's name where its requests a second are watched, not those at once."""
TABLES = (
    HOSTS, DOMAINS, REDIRECTS, NAMES, CHALLENGES, AUTHORITIES, TIMEOUTS, UNAVAILABLE, LIMITS, GUARDED, RESTRICTED,
    OPEN_PATHS, STICKY, CALLERS, CALLS, WATCHED, AWAKE, KEPT, COLD, STEPS,
)  # fmt: skip
"""The maps of a state. The map of tokens is not among them: ``daemon/access/ingress_tokens.py`` writes it."""
LOOPBACK = ("127.0.0.1", "::1")
DEFAULT_MAXCONN = 1024
MAX_MAXCONN = 4095
"""One below the sockets' backlog of 4096.

With a full backlog connect() fails, and the request with it, while requests above ``maxconn`` wait inside
HAProxy.
"""
DEFAULT_TIMEOUT_MS = 300_000
_DAY_MS = 86_400_000

_SERVER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,78}[a-z0-9])?")
POOL = re.compile(r"pool-(?:0|[1-9][0-9]{0,3})")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_PATH = re.compile(r"/[A-Za-z0-9/._-]{1,106}")  # sun_path has 108 bytes, the last of which is NUL
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")  # RFC 7638, with SHA-256
_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_CALL = re.compile(rf"{_ADDRESS.pattern}/{_NAME.pattern}")
_WATCHED = re.compile(rf"{POOL.pattern}(?:{RATE})?")
_APP = re.compile(rf"{_NAME.pattern}(?:/{_NAME.pattern}){{0,2}}")
_REASON_LENGTH = 500
_MOST_SEEN = 16384


def is_server(word: str) -> bool:
    """Report whether a word may name a server or a pool."""
    return _SERVER.fullmatch(word) is not None


@lru_cache
def _seen(form: re.Pattern[str]) -> set[str]:  # noqa: ARG001  the key
    return set()


def _unfit(form: re.Pattern[str], words: Iterable[str]) -> str | None:
    """Return a word that has not this form; ``None`` if all have it.

    Each pass makes a state of all apps, nearly all of whose words were in the one before: these are not looked at.
    """
    seen = _seen(form)
    new = set(words) - seen
    wrong = next((word for word in sorted(new) if form.fullmatch(word) is None), None)
    if wrong is None and new:
        if len(seen) > _MOST_SEEN:
            seen.clear()
        seen |= new
    return wrong


T = TypeVar("T")


def _empty() -> Mapping[str, T]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Server:
    """One replica behind the ingress.

    Its name contains app, revision and replica, so only ``maxconn``, ``rests`` and ``kept`` can change.
    """

    name: str
    socket_path: str
    maxconn: int = DEFAULT_MAXCONN
    h2: bool = False  # it speaks HTTP/2 only; HAProxy does not report this, nor the socket's path
    pool: str = ""  # the pool that it is in (pools.py); "": the server of an app with one replica
    rests: bool = False  # in a pool: it gets no new requests
    kept: bool = False  # connections to it are kept for further requests (kept.py)

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInput` for a name, path or limit that is not valid.

        HAProxy does not report socket paths, so a server that was read back has the path ``""``.
        """
        if _SERVER.fullmatch(self.name) is None:
            raise InvalidInput(f"server name {printable(self.name)} is not valid")
        if self.socket_path and _PATH.fullmatch(self.socket_path) is None:
            raise InvalidInput(f"socket path {printable(self.socket_path)} is not valid")
        if self.pool and POOL.fullmatch(self.pool) is None:
            raise InvalidInput(f"server '{self.name}': pool {printable(self.pool)} is not valid")
        if not 1 <= self.maxconn <= MAX_MAXCONN:
            raise InvalidInput(f"server '{self.name}': maxconn must be 1 to {MAX_MAXCONN}")

    @cached_property
    def words(self) -> str:
        """What follows the server's name in HAProxy's configuration and in ``add server``."""
        # weight 0: `use-server` with a name that does not exist falls back to balancing, so to another app's server
        # (in a pool all servers are one app's)
        weight = 1 if self.pool else 0
        return f"unix@{self.socket_path} maxconn {self.maxconn} weight {weight}" + (" proto h2" if self.h2 else "")

    @cached_property
    def line(self) -> str:
        """Its line in HAProxy's configuration."""
        return f"    server {self.name} {self.words}{' disabled' if self.rests else ''}\n"


@dataclass(frozen=True)
class Unavailable:
    """Why an app is not available now, for its visitors, and the seconds after which to try again."""

    reason: str
    retry_after_s: int = 30

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInput` for a reason or time that is not valid; :func:`unavailable` takes any text."""
        if not self.reason or len(self.reason) > _REASON_LENGTH or CONTROL.search(self.reason):
            raise InvalidInput(
                f"the reason {printable(self.reason)} is empty, too long or contains a control character"
            )
        if self.reason != " ".join(self.reason.split()):
            raise InvalidInput("a reason has single spaces only")
        if not 0 <= self.retry_after_s <= 86400:
            raise InvalidInput("Retry-After must be 0 to 86400 seconds")


def unavailable(text: str, retry_after_s: int = 30) -> Unavailable:
    """Return an :class:`Unavailable` with any text (a log line, an error), cleaned and shortened."""
    clean = " ".join(CONTROL.sub(" ", text).split())
    return Unavailable(clean[:_REASON_LENGTH].rstrip() or "not available", retry_after_s)


@dataclass(frozen=True)
class IngressState:
    """What the ingress serves: servers, hosts and time limits. ``unavailable`` takes precedence over ``hosts``.

    The keys of the tables are apps' hosts at the machine's own base domain, except in ``domains``,
    ``redirects``, ``names``, ``challenges`` and ``authorities``.
    """

    servers: Mapping[str, Server] = field(default_factory=_empty)
    hosts: Mapping[str, str] = field(default_factory=_empty)  # host name → server or pool
    domains: Mapping[str, str] = field(default_factory=_empty)  # another base domain → the machine's own
    redirects: Mapping[str, str] = field(default_factory=_empty)  # a base domain → the one that its clients go to
    names: Mapping[str, str] = field(default_factory=_empty)  # any other name of an app → its host
    challenges: Mapping[str, str] = field(default_factory=_empty)  # a name that is being proved → who proves it
    authorities: Mapping[str, str] = field(default_factory=_empty)  # a name → the domain whose authority is there
    timeouts_ms: Mapping[str, int] = field(default_factory=_empty)  # server or pool → longest silence of the app
    unavailable: Mapping[str, Unavailable] = field(default_factory=_empty)  # host name → why
    limits: Mapping[str, str] = field(default_factory=_empty)  # host name → what clients.limits_value returns
    guarded: Mapping[str, str] = field(default_factory=_empty)  # host name → id of an app that requires a token
    restricted: Mapping[str, str] = field(default_factory=_empty)  # host name → id of an app with only some paths open
    open_paths: Mapping[str, str] = field(default_factory=_empty)  # host name and path of those → "open"
    sticky: Mapping[str, str] = field(default_factory=_empty)  # pool to whose replicas browsers come back → "yes"
    callers: Mapping[str, str] = field(default_factory=_empty)  # address of an app that calls others → its key
    calls: Mapping[str, str] = field(default_factory=_empty)  # that address, "/", name of an app → that app's host
    watched: Mapping[str, int] = field(default_factory=_empty)  # pool → load of which HAProxy tells (scaling.watched)
    awake: Mapping[str, str] = field(default_factory=_empty)  # server or pool of an app that serves → "yes" (no_wake)
    cold: Mapping[str, str] = field(default_factory=_empty)  # that of an app that does not run → its socket's path
    steps: Mapping[str, str] = field(default_factory=_empty)  # host name of an app that starts → what it does

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInput` for a name, path or time limit that is not valid.

        Whether the servers that hosts lead to exist is for :meth:`check`.
        """
        if [*self.servers] != (named := [server.name for server in self.servers.values()]):
            misfiled = next(name for key, name in zip(self.servers, named, strict=True) if key != name)
            raise InvalidInput(f"server '{misfiled}' is filed under another name")
        hosts = (*self.hosts, *self.unavailable, *self.limits, *self.guarded, *self.restricted)
        hosts += (*self.domains, *self.domains.values(), *self.names, *self.names.values(), *self.challenges)
        hosts += (*self.redirects, *self.redirects.values(), *self.steps)
        hosts += (*self.authorities, *self.authorities.values(), *self.calls.values())
        names = (*self.hosts.values(), *self.guarded.values(), *self.restricted.values(), *self.sticky, *self.awake)
        for what, form, words in (
            ("host name", _HOST, hosts),
            ("server name", _SERVER, (*names, *self.timeouts_ms, *self.cold)),
            ("open path", KEY, self.open_paths),
            ("limit", VALUE, self.limits.values()),
            ("address", _ADDRESS, self.callers),
            ("caller", _APP, self.callers.values()),
            ("call", _CALL, self.calls),
            ("pool", _WATCHED, self.watched),
            ("socket path", _PATH, self.cold.values()),
            ("step", STEP, self.steps.values()),
            ("thumbprint", _THUMBPRINT, self.challenges.values()),
        ):
            if (wrong := _unfit(form, words)) is not None:
                raise InvalidInput(f"{what} {printable(wrong)} is not valid")
        if not all(0 < load < 1 << 31 for load in self.watched.values()):
            raise InvalidInput("a load that is watched must be at least 1")
        times = self.timeouts_ms.values()
        if times and not (min(times) >= 1 and max(times) <= _DAY_MS):
            name = next(name for name, limit in self.timeouts_ms.items() if not 1 <= limit <= _DAY_MS)
            raise InvalidInput(f"server {printable(name)}: a time limit must be 1 ms to one day")

    def check(self) -> IngressState:
        """Return the state itself if it is complete; call this on a wanted state.

        Raises :class:`InvalidInput` for a host or time limit whose server does not exist, and for a server without a
        socket.
        """
        known = {*self.servers, *(server.pool for server in self.servers.values() if server.pool)}
        if lost := set(self.hosts.values()) - known:
            host, name = next((host, name) for host, name in self.hosts.items() if name in lost)
            raise InvalidInput(f"host '{host}' leads to server {printable(name)}, which does not exist")
        if lost := self.timeouts_ms.keys() - known:
            raise InvalidInput(f"a time limit is set for server {printable(min(lost))}, which does not exist")
        if nowhere := [server.name for server in self.servers.values() if not server.socket_path]:
            raise InvalidInput(f"server '{nowhere[0]}' has no socket")
        pools = known - self.servers.keys()
        shared = [name for name in self.hosts.values() if name in pools] if pools else []
        if len(shared) > len(set(shared)):
            raise InvalidInput("two hosts lead to one pool")
        return self


@dataclass(frozen=True)
class Listen:
    """The ports and addresses on which the ingress listens, and what it takes from its clients."""

    https_port: int = 443
    http_port: int = 80
    addresses: tuple[str, ...] = LOOPBACK
    clients: ClientRules = field(default_factory=ClientRules)

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInput` for a port or address that is not valid, equal ports, or no address."""
        for port in (self.https_port, self.http_port):
            if not 1 <= port <= 65535:
                raise InvalidInput(f"port {port} is out of range")
        if self.https_port == self.http_port or not self.addresses:
            raise InvalidInput("the ingress needs two different ports and at least one address")
        for address in self.addresses:
            try:
                ipaddress.ip_address(address)
            except ValueError as error:
                raise InvalidInput(f"listen address {printable(address)} is not an IP address") from error


@dataclass(frozen=True)
class Live:
    """HAProxy's state at one moment.

    ``kept``: its map of kept connections. ``twins``: the servers that keep these (kept.py), as HAProxy's commands name
    them → whether they take requests.
    """

    state: IngressState
    traffic: Mapping[str, Traffic] = field(default_factory=_empty)
    resting: frozenset[str] = frozenset()  # servers in maintenance: they get no new requests
    structure: str = ""  # digest of the configuration that it was started with; see config.structure
    kept: Mapping[str, str] = field(default_factory=_empty)
    twins: Mapping[str, bool] = field(default_factory=_empty)


def reason_values(state: IngressState) -> dict[str, str]:
    """Return host → ``"<retry after> <reason>"``: one value, so that both change in one command."""
    return {host: f"{u.retry_after_s} {u.reason}" for host, u in state.unavailable.items()}
