"""What the ingress shall serve, and the difference between that and what HAProxy has. Pure.

Values are checked when made: a name, host, path or reason that reaches a configuration file or HAProxy's
command line has no character in it that could end a word or a line there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from flyted.contract.errors import InvalidInput
from flyted.contract.names import shown
from flyted.plan.idle import Traffic
from flyted.plan.ingress_fence import FENCED, KEY, OPEN_PATHS, host_of
from flyted.plan.ingress_guard import GUARDED, TOKENS

BACKEND = "apps"
FILES = "/run/flyted/ingress"
HOSTS, TIMEOUTS, UNAVAILABLE = "hosts.map", "timeouts.map", "unavailable.map"
TABLES = (HOSTS, TIMEOUTS, UNAVAILABLE, GUARDED, FENCED, OPEN_PATHS)
"""The maps of a state; the one of tokens is another matter (``daemon/grants.py``)."""
LOOPBACK = ("127.0.0.1", "::1")
DEFAULT_MAXCONN = 1024
MAX_MAXCONN = 4095
"""One below the sockets' backlog of 4096: at a full backlog connect() fails at once, and the request with it, while
requests above ``maxconn`` wait inside HAProxy."""
DEFAULT_TIMEOUT_MS = 300_000

_SERVER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,78}[a-z0-9])?")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_PATH = re.compile(r"/[A-Za-z0-9/._-]{1,106}")  # sun_path holds 108 bytes, one of them the end
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_REASON_LENGTH = 500

T = TypeVar("T")


def _empty() -> Mapping[str, T]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Server:
    """One replica behind the ingress. Its name carries app, revision and replica, and so fixes all but ``maxconn``."""

    name: str
    socket_path: str
    maxconn: int = DEFAULT_MAXCONN
    h2: bool = False  # it speaks HTTP/2, and nothing else; as its path, HAProxy does not tell it

    def __post_init__(self) -> None:
        """Raises :class:`InvalidInput`. HAProxy does not tell socket paths: what was read back has ``""``."""
        if _SERVER.fullmatch(self.name) is None:
            raise InvalidInput(f"server name {shown(self.name)} is not valid")
        if self.socket_path and _PATH.fullmatch(self.socket_path) is None:
            raise InvalidInput(f"socket path {shown(self.socket_path)} is not valid")
        if not 1 <= self.maxconn <= MAX_MAXCONN:
            raise InvalidInput(f"server '{self.name}': maxconn must be 1 to {MAX_MAXCONN}")

    @property
    def words(self) -> str:
        """What HAProxy is told of it behind its name, in the file and at run time."""
        # weight 0: `use-server` with a name that is not there falls back to balancing, to another app's server
        return f"unix@{self.socket_path} maxconn {self.maxconn} weight 0" + (" proto h2" if self.h2 else "")


@dataclass(frozen=True)
class Unavailable:
    """Why an app cannot be had now, as its visitors are told, and when to try again."""

    reason: str
    retry_after_s: int = 30

    def __post_init__(self) -> None:
        """Raises :class:`InvalidInput`; :func:`unavailable` takes any text."""
        if not self.reason or len(self.reason) > _REASON_LENGTH or _CONTROL.search(self.reason):
            raise InvalidInput(f"the reason {shown(self.reason)} is empty, too long or has a control character in it")
        if self.reason != " ".join(self.reason.split()):
            raise InvalidInput("a reason has single spaces only")
        if not 0 <= self.retry_after_s <= 86400:
            raise InvalidInput("Retry-After must be 0 to 86400 seconds")


def unavailable(text: str, retry_after_s: int = 30) -> Unavailable:
    """An :class:`Unavailable` from any text (a log line, an error): cleaned and shortened."""
    clean = " ".join(_CONTROL.sub(" ", text).split())
    return Unavailable(clean[:_REASON_LENGTH].rstrip() or "not available", retry_after_s)


@dataclass(frozen=True)
class IngressState:
    """What is served: servers by name, host names, time limits. ``unavailable`` wins over ``hosts``."""

    servers: Mapping[str, Server] = field(default_factory=_empty)
    hosts: Mapping[str, str] = field(default_factory=_empty)  # host name → server name
    timeouts_ms: Mapping[str, int] = field(default_factory=_empty)  # server name → longest silence of the app
    unavailable: Mapping[str, Unavailable] = field(default_factory=_empty)  # host name → why
    guarded: Mapping[str, str] = field(default_factory=_empty)  # host name → id of an app that wants a token
    fenced: Mapping[str, str] = field(default_factory=_empty)  # host name → id of an app of which only some paths
    open_paths: Mapping[str, str] = field(default_factory=_empty)  # are open: host name and path → "open"

    def __post_init__(self) -> None:
        """Checks names, and that every host leads somewhere; raises :class:`InvalidInput`."""
        for name, server in self.servers.items():
            if name != server.name:
                raise InvalidInput(f"server '{server.name}' is filed under another name")
        hosts = (*self.hosts, *self.unavailable, *self.guarded, *self.fenced)
        names = (*self.hosts.values(), *self.guarded.values(), *self.fenced.values())
        for what, shape, words in (
            ("host name", _HOST, hosts), ("server name", _SERVER, names), ("open path", KEY, self.open_paths),
        ):  # fmt: skip
            wrong = next((w for w in words if shape.fullmatch(w) is None), None)
            if wrong is not None:
                raise InvalidInput(f"{what} {shown(wrong)} is not valid")
        for name, limit in self.timeouts_ms.items():
            if _SERVER.fullmatch(name) is None or not 1 <= limit <= 86_400_000:
                raise InvalidInput(f"server {shown(name)}: a time limit must be 1 ms to one day")

    def check(self) -> IngressState:
        """The state itself, if every host leads to a server; raises :class:`InvalidInput`. For what is wanted."""
        for host, name in self.hosts.items():
            if name not in self.servers:
                raise InvalidInput(f"host '{host}' leads to server {shown(name)}, which is not there")
        for name in self.timeouts_ms:
            if name not in self.servers:
                raise InvalidInput(f"a time limit is set for server {shown(name)}, which is not there")
        for server in self.servers.values():
            if not server.socket_path:
                raise InvalidInput(f"server '{server.name}' has no socket")
        return self


@dataclass(frozen=True)
class Listen:
    """Where the ingress listens."""

    https_port: int = 443
    http_port: int = 80
    addresses: tuple[str, ...] = LOOPBACK

    def __post_init__(self) -> None:
        """Raises :class:`InvalidInput` for a port or address that is none."""
        for port in (self.https_port, self.http_port):
            if not 1 <= port <= 65535:
                raise InvalidInput(f"port {port} is out of range")
        if self.https_port == self.http_port or not self.addresses:
            raise InvalidInput("the ingress needs two different ports and at least one address")
        for address in self.addresses:
            try:
                ipaddress.ip_address(address)
            except ValueError as error:
                raise InvalidInput(f"listen address {shown(address)} is not an IP address") from error


@dataclass(frozen=True)
class Live:
    """What HAProxy said that it has, at one moment."""

    state: IngressState
    traffic: Mapping[str, Traffic] = field(default_factory=_empty)
    resting: frozenset[str] = frozenset()  # servers in maintenance: taken out, not yet deleted
    structure: str = ""  # digest of the configuration it was started with; see ingress_config.structure


def draining(live: Live, wanted: IngressState) -> frozenset[str]:
    """Servers that are not wanted any more and still answer requests: they stay until a later :func:`changes`."""
    unwanted = live.state.servers.keys() - wanted.servers.keys()
    return frozenset(n for n in unwanted if n in live.traffic and live.traffic[n].busy)


def changes(live: Live, wanted: IngressState, files: str = FILES) -> list[str]:
    """Commands for HAProxy's runtime API that turn what it has into what is wanted.

    The order keeps every moment between two commands servable: a server exists before a host leads to it, a host's
    new server replaces the old one in one command, a server goes when no host leads to it and nothing is in flight.
    Source: HAProxy's management.txt, section 9.3.
    """
    have = live.state
    table = {name: f"{files}/{name}" for name in TABLES}
    busy = draining(live, wanted)
    gone = sorted(have.servers.keys() - wanted.servers.keys() - busy)
    limits = {n: str(ms) for n, ms in wanted.timeouts_ms.items()}
    old_limits = {n: str(ms) for n, ms in have.timeouts_ms.items()}
    why, old_why = (reason_values(s) for s in (wanted, have))
    closing = {key: "" for key in have.open_paths if host_of(key) in wanted.fenced}
    return [
        *_set(table[OPEN_PATHS], have.open_paths, wanted.open_paths),
        *_set(table[FENCED], have.fenced, wanted.fenced),
        *_unset(table[OPEN_PATHS], closing, wanted.open_paths),  # while what may lie there is not yet served
        *_set(table[GUARDED], have.guarded, wanted.guarded),  # before anything of the app can be had
        *_set(table[UNAVAILABLE], old_why, why),
        *_set(table[TIMEOUTS], old_limits, limits),
        *(command for server in wanted.servers.values() for command in _server(server, live)),
        *_set(table[HOSTS], have.hosts, wanted.hosts),
        *_unset(table[HOSTS], have.hosts, wanted.hosts),
        *_unset(table[UNAVAILABLE], old_why, why),
        *(c for n in gone for c in (f"set server {BACKEND}/{n} state maint", f"del server {BACKEND}/{n}")),
        *_unset(table[TIMEOUTS], old_limits, {**limits, **dict.fromkeys(busy, "")}),
        *_unset(table[GUARDED], have.guarded, wanted.guarded),
        *_unset(table[FENCED], have.fenced, wanted.fenced),
        *_unset(table[OPEN_PATHS], have.open_paths, {**closing, **wanted.open_paths}),
    ]


def token_changes(have: Mapping[str, str], wanted: Mapping[str, str], files: str = FILES) -> list[str]:
    """Commands that turn HAProxy's table of tokens into what is wanted; what ends comes first."""
    table = f"{files}/{TOKENS}"
    return [*_unset(table, have, wanted), *_set(table, have, wanted)]


def _server(server: Server, live: Live) -> list[str]:
    name, known = f"{BACKEND}/{server.name}", live.state.servers.get(server.name)
    if known is None:
        return [
            f"add server {name} {server.words}",
            f"enable server {name}",
        ]
    commands = [] if known.maxconn == server.maxconn else [f"set maxconn server {name} {server.maxconn}"]
    return commands + ([f"enable server {name}"] if server.name in live.resting else [])


def reason_values(state: IngressState) -> dict[str, str]:
    """Host → ``"<retry after> <reason>"``: one value, so that both change in one command."""
    return {host: f"{u.retry_after_s} {u.reason}" for host, u in state.unavailable.items()}


def _set(table: str, have: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """`add map` on a key that is there would add a second entry, `set map` on a missing one fails."""
    return [
        f"{'set' if key in have else 'add'} map {table} {key} {word(value)}"
        for key, value in sorted(wanted.items())
        if have.get(key) != value
    ]


def _unset(table: str, have: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    return [f"del map {table} {key}" for key in sorted(have.keys() - wanted.keys())]


def word(value: str) -> str:
    """A value as one word of HAProxy's command line: a backslash before whatever could end a word or a command."""
    if not value or _CONTROL.search(value):
        raise InvalidInput(f"{shown(value)} is empty or has a control character in it")
    return re.sub(r"([^A-Za-z0-9._:/\u0080-\U0010ffff-])", r"\\\1", value)
