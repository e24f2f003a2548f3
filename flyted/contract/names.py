"""Checks every string from outside that becomes a name: apps, secrets, environment variables, units, hosts, users.

Each is checked once, here, with ``re.fullmatch`` (``re.match`` with ``$`` accepts a trailing newline). Every name that
flyted derives comes from a function of this file: no other code joins strings to a unit or host name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

from flyted.contract.errors import InvalidInput

DEFAULT_PROJECT = "default"
DEFAULT_DOMAIN = "development"
MAX_DOMAIN = 180
"""The most characters of a base domain, so that an app's host below it is no longer than DNS allows."""
BASE_DOMAIN = "apps.localhost"
GATEWAY_HOST = "flyted.localhost"
"""Where the Flyte CLI and SDK find this machine; no app can have this name."""
GATEWAY_LABEL = "flyted"
"""Where they find it at another base domain, if it is served there; no app can have this name either."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SECRET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DOMAIN = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})+")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?(?::[A-Za-z0-9._-]{1,64})?")
_LINK = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]*)?|https?://[A-Za-z0-9.\-]+(?::[0-9]{1,5})?(?:/[!-\[\]-~]*)?")
"""A path or an address in printable ASCII, without blanks and backslashes (RFC 3986)."""
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SYSTEMDS = re.compile(
    r"LISTEN_.*|CREDENTIALS_DIRECTORY|NOTIFY_SOCKET|WATCHDOG_.*|MAINPID|INVOCATION_ID|JOURNAL_STREAM|"
    r"(?:STATE|CACHE|RUNTIME)_DIRECTORY"
)
_ENV_DENIED = re.compile(
    rf"LD_.*|DYLD_.*|PYTHON.*|BASH_.*|GCONV_PATH|PATH|HOME|IFS|ENV|SHELL|USER|LOGNAME|{_SYSTEMDS.pattern}|"
    r"(?:LOGS|CONFIGURATION)_DIRECTORY|_U_.*|_F_.*|FLYTED_.*"
)
"""Variables whose value would change which code runs, or that systemd and ``launch`` set themselves."""
_HASH = 16  # hexadecimal digits; 8 in flyted 0.1.0, whose apps keep their ids
_HASHED_END = re.compile(r".*-(?:[0-9a-f]{8}|[0-9a-f]{16})")
_ID_LENGTH = 40  # unit name + credential id must stay within 84 bytes (beyond, systemd says `Protocol error`)
_USER_LENGTH = 31  # systemd refuses longer user names


@dataclass(frozen=True, order=True)
class SecretScope:
    """The scope of a secret: the whole machine ("org": both empty), a domain, or one project's domain."""

    project: str = ""
    domain: str = ""

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInput` for bad names, and for a project without a domain: Flyte has no such scope."""
        if self.project and not self.domain:
            raise InvalidInput("a secret with --project needs a --domain as well", hint="add --domain development")
        for kind, value in (("project", self.project), ("domain", self.domain)):
            if value:
                label(value, kind)

    def __str__(self) -> str:
        if self.project:
            return f"project '{self.project}', domain '{self.domain}'"
        return f"domain '{self.domain}'" if self.domain else "the whole machine"


@dataclass(frozen=True, order=True)
class AppKey:
    """The identity of an app as Flyte names it; it is checked when it is made."""

    project: str
    domain: str
    name: str
    _known: ClassVar[str] = ""  # the id, if it is known; no part of the key, so neither compared nor sent

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInput` unless each part is a valid name."""
        label(self.name, "app name")
        label(self.project, "project")
        label(self.domain, "domain")

    @property
    def id(self) -> str:
        """The app's id, a DNS label that no other app has: its name if that is unambiguous, else name and hash.

        An app that is known keeps the id that it was given first, see :meth:`known_as`.
        """
        if self._known:
            return self._known
        plain = (self.project, self.domain) == (DEFAULT_PROJECT, DEFAULT_DOMAIN)
        if plain and len(self.name) <= _ID_LENGTH and not _HASHED_END.fullmatch(self.name):
            return self.name
        whole = f"{self.project}/{self.domain}/{self.name}"
        slug = self.name if plain else f"{self.name}-{self.project}-{self.domain}"
        return f"{slug[: _ID_LENGTH - _HASH - 1].rstrip('-')}-{_digest(whole)[:_HASH]}"

    def known_as(self, app_id: str) -> AppKey:
        """Return the same key with this id: the way in which ids are made may change, but not the id of an app."""
        found = AppKey(self.project, self.domain, self.name)
        object.__setattr__(found, "_known", app_id)
        return found

    def __str__(self) -> str:
        plain = (self.project, self.domain) == (DEFAULT_PROJECT, DEFAULT_DOMAIN)
        return self.name if plain else f"{self.project}/{self.domain}/{self.name}"


@dataclass(frozen=True, order=True)
class Replica:
    """One running copy of one revision of an app: its pair of units and its server in the ingress."""

    app_id: str
    revision: int
    number: int = 0

    def __hash__(self) -> int:
        """Return the hash, which is computed once: each pass over all apps looks replicas up several times."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.app_id, self.revision, self.number))

    @cached_property
    def server(self) -> str:
        """The name of the replica's server in HAProxy."""
        return f"{self.app_id}-r{self.revision}-{self.number}"

    @cached_property
    def socket(self) -> str:
        """The name of the ``.socket`` unit."""
        return f"flyted-app-{self.server}.socket"

    @cached_property
    def service(self) -> str:
        """The name of the ``.service`` unit; equal stems pair the two (docs/TRANSIENT-SETTINGS.md of systemd)."""
        return f"flyted-app-{self.server}.service"


_UNIT = re.compile(r"flyted-app-(?P<id>[a-z0-9-]+)-r(?P<revision>[0-9]{1,9})-(?P<number>[0-9]{1,4})\.(socket|service)")


@lru_cache(maxsize=8192)
def replica_of(unit: str) -> Replica | None:
    """Return the replica that a unit name belongs to; ``None`` for a unit that is not an app's."""
    found = _UNIT.fullmatch(unit)
    if found is None:
        return None
    return Replica(found["id"], int(found["revision"]), int(found["number"]))


EGRESS_UNIT = "flyted-net.service"
"""The unit through which the networks of all apps reach the world."""
CALLS_NET_UNIT = "flyted-calls-net.service"
"""The unit through which they reach the ingress, to call other apps."""
CALLS_ADDRESS = "198.18.255.1"
"""Where the ingress answers apps (flyted/net/plan.py)."""
INTERNAL_DOMAIN = "apps.internal"
"""The base domain of the names by which apps call apps of their project and domain."""


_FREEZER = re.compile(r"flyted-freeze@(?P<server>.+)\.service")


def freezer_of(replica: Replica) -> str:
    """Return the unit that keeps a replica frozen (units/flyted-freeze@.service)."""
    return f"flyted-freeze@{replica.server}.service"


@lru_cache(maxsize=8192)
def frozen_by(unit: str) -> Replica | None:
    """Return the replica that a unit keeps frozen; ``None`` for another kind of unit."""
    found = _FREEZER.fullmatch(unit)
    return replica_of(f"flyted-app-{found['server']}.service") if found is not None else None


def network_of(replica: Replica) -> str:
    """Return the unit that holds the network namespace of a replica (units/flyted-net@.service)."""
    return f"flyted-net@{replica.server}.service"


def user_of(app_id: str) -> str:
    """Return the app's own user (``DynamicUser=`` with ``User=``).

    It is the same for all revisions of the app, so that they share state.
    """
    name = f"fa-{app_id}"
    if len(name) <= _USER_LENGTH:
        return name
    return f"fa-{app_id[: _USER_LENGTH - 12].rstrip('-')}-{_digest(app_id)[:8]}"


def state_name(app_id: str) -> str:
    """Return the name of the folder below /var/lib and /var/cache that an app keeps across revisions."""
    return f"flyted-app-{app_id}"


def host_of(app_id: str, base_domain: str = BASE_DOMAIN) -> str:
    """Return the host name under which the ingress serves an app."""
    return f"{app_id}.{base_domain}"


def own_host(base_domain: str) -> str:
    """Return the host name of flyted itself at a base domain: of its API, and of the page about its authority."""
    return host_of(GATEWAY_LABEL, base_domain)


def at_port(host: str, port: int, usual: int = 443) -> str:
    """Return ``host`` as an address has it: followed by the port, unless that is the usual one."""
    return host if port == usual else f"{host}:{port}"


def label(value: str, kind: str) -> str:
    """Return ``value`` if it is a name as Flyte has them (app, project, domain): an RFC 1123 label, 1-63 characters.

    Raise :class:`InvalidInput` otherwise. ``kind`` names the value in the message.
    """
    if not isinstance(value, str) or _LABEL.fullmatch(value) is None:
        raise InvalidInput(
            f"{kind} {printable(value)} is not valid",
            hint="use 1-63 of a-z, 0-9 and '-', not at the beginning or end",
        )
    return value


def base_domain(text: object) -> str:
    """Return ``text`` if it is a domain below which apps can have hosts: two labels or more, in lower case.

    Raise :class:`InvalidInput` otherwise. A name of other letters is given in the form that DNS has (RFC 5890: xn--).
    Browsers take a name whose last label is a number for an IPv4 address (URL Standard, "ends in a number").
    """
    if (
        not isinstance(text, str)
        or len(text) > MAX_DOMAIN
        or _DOMAIN.fullmatch(text) is None
        or text.rpartition(".")[2].isdigit()
    ):
        raise InvalidInput(
            f"{printable(text)} is not a domain",
            hint="give at least two labels of a-z, 0-9 and '-', such as apps.example.org",
        )
    return text


def model_name(text: object) -> str:
    """Return ``text`` if it is a model's name as a hub writes it, ``Qwen/Qwen3-0.6B``, with or without a tag.

    Raise :class:`InvalidInput` otherwise.
    """
    if not isinstance(text, str) or _MODEL.fullmatch(text) is None:
        raise InvalidInput(
            f"{printable(text)} is not a model name", hint="give it as in model_hf_path=, for example Qwen/Qwen3-0.6B"
        )
    return text


def link_target(value: str) -> str:
    """Return ``value`` if a link of an app may lead there: to a path of the app, or to an http(s) address elsewhere.

    A path is put behind the app's host name, so it must begin with exactly one slash: ``@evil.example/`` would turn
    the host name into a user name, and two slashes begin another host. Raise :class:`InvalidInput` otherwise.
    """
    if not isinstance(value, str) or _LINK.fullmatch(value) is None:
        raise InvalidInput(
            f"link {printable(value)} is not valid",
            hint="use a path such as /docs, or a URL such as https://host/path",
        )
    return value


def secret_key(value: str) -> str:
    """Return ``value`` if it is a secret's key, ``KEY`` or ``GROUP/KEY``.

    The group is a part of it: two groups may have a secret of the same name. Raise :class:`InvalidInput` otherwise.
    """
    parts = value.split("/") if isinstance(value, str) else []
    if len(parts) not in (1, 2) or not all(_SECRET_NAME.fullmatch(part) and ".." not in part for part in parts):
        raise InvalidInput(
            f"secret key {printable(value)} is not valid",
            hint="use 1-128 of A-Z, a-z, 0-9, '_', '-' and '.', not beginning with '-' or '.', without '..'; "
            "write GROUP/KEY for a secret of a group",
        )
    return value


def secret_file(value: str) -> str:
    """Return ``value`` if it is the name of a file in which an app finds a secret: a key without its group.

    Raise :class:`InvalidInput` otherwise.
    """
    secret_key(value)
    if "/" in value:
        raise InvalidInput(f"{printable(value)} is not the name of a secret's file", hint="leave the group out")
    return value


def env_name(value: str) -> str:
    """Return ``value`` if an app may be given a variable of this name, for a secret or not.

    Raise :class:`InvalidInput` for a bad name, and for a variable that would change which code runs.
    """
    if not isinstance(value, str) or _ENV.fullmatch(value) is None:
        raise InvalidInput(
            f"environment variable {printable(value)} is not valid",
            hint="use A-Z, 0-9 and '_', not beginning with a digit",
        )
    if _ENV_DENIED.fullmatch(value):
        raise InvalidInput(
            f"environment variable '{value}' may not be set for an app: it would change which code runs",
            hint="choose another name",
        )
    return value


def set_by_systemd(name: str) -> bool:
    """Report whether systemd sets a variable of this name for services: what an image says of it does not count."""
    return _SYSTEMDS.fullmatch(name) is not None


def printable(value: object) -> str:
    """Return an untrusted value as printable ASCII of at most 80 characters, for a message.

    No control character survives, and strings are in quotes.
    """
    return shortened(ascii(value))


def shortened(text: str) -> str:
    """Return a text of at most 80 characters, for a message: a name whose letters were checked, but not its length.

    A longer text loses its middle, since the end of a path says which file it is.
    """
    return text if len(text) <= 80 else f"{text[:38]}...{text[-39:]}"


def _digest(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal digits."""
    import hashlib  # noqa: PLC0415  most commands make no digest, and OpenSSL takes 3 of their milliseconds

    return hashlib.sha256(text.encode()).hexdigest()
