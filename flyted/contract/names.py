"""Every outside string that becomes a name: apps, secrets, environment variables, units, hosts, users.

Each is checked once, here, with ``re.fullmatch`` (``re.match`` with ``$`` accepts a trailing newline), and every
name that we derive comes from a function of this file: no other code joins strings to a unit or host name.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import ClassVar

from flyted.contract.errors import InvalidInput

DEFAULT_PROJECT = "default"
DEFAULT_DOMAIN = "development"
BASE_DOMAIN = "apps.localhost"
GATEWAY_HOST = "flyted.localhost"
"""Where the Flyte CLI and SDK find this machine; no app can have this name."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SECRET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?(?::[A-Za-z0-9._-]{1,64})?")
_LINK = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]*)?|https?://[A-Za-z0-9.\-]+(?::[0-9]{1,5})?(?:/[!-\[\]-~]*)?")
"""A path or an address in printable ASCII, without blanks and backslashes (RFC 3986)."""
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_ENV_DENIED = re.compile(
    r"LD_.*|DYLD_.*|PYTHON.*|BASH_.*|LISTEN_.*|GCONV_PATH|PATH|HOME|IFS|ENV|SHELL|USER|LOGNAME|"
    r"CREDENTIALS_DIRECTORY|NOTIFY_SOCKET|WATCHDOG_.*|MAINPID|INVOCATION_ID|JOURNAL_STREAM|"
    r"(?:STATE|CACHE|RUNTIME|LOGS|CONFIGURATION)_DIRECTORY|_U_.*|_F_.*|FLYTED_.*"
)
"""Variables through which a value would change which code runs, or that systemd and launch speak through."""
_HASH = 16  # hexadecimal digits; 8 in flyted 0.1.0, whose apps keep their ids
_HASHED_END = re.compile(r".*-(?:[0-9a-f]{8}|[0-9a-f]{16})")
_ID_LENGTH = 40  # unit name + credential id must stay within 84 bytes (systemd: `Protocol error` above)
_USER_LENGTH = 31  # systemd refuses longer user names


@dataclass(frozen=True, order=True)
class SecretScope:
    """Where a secret counts: the whole machine ("org": both empty), a domain, or one project's domain."""

    project: str = ""
    domain: str = ""

    def __post_init__(self) -> None:
        """Refuses a project without a domain: Flyte has no such scope."""
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
    """The identity of an app in Flyte's words; checked when made."""

    project: str
    domain: str
    name: str
    _known: ClassVar[str] = ""  # no part of the key: neither compared nor sent

    def __post_init__(self) -> None:
        """Checks each part."""
        label(self.name, "app name")
        label(self.project, "project")
        label(self.domain, "domain")

    @property
    def id(self) -> str:
        """One DNS label, unique per app: the app's name wherever that is unambiguous, else name and hash.

        Of an app that is known it is the id that it was given first, see :meth:`known_as`.
        """
        if self._known:
            return self._known
        plain = (self.project, self.domain) == (DEFAULT_PROJECT, DEFAULT_DOMAIN)
        if plain and len(self.name) <= _ID_LENGTH and not _HASHED_END.fullmatch(self.name):
            return self.name
        whole = f"{self.project}/{self.domain}/{self.name}"
        slug = self.name if plain else f"{self.name}-{self.project}-{self.domain}"
        digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH]
        return f"{slug[: _ID_LENGTH - _HASH - 1].rstrip('-')}-{digest}"

    def known_as(self, app_id: str) -> AppKey:
        """The same key, whose app has this id: how ids are made may change, the id of an app does not."""
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

    @property
    def server(self) -> str:
        """The server's name in HAProxy."""
        return f"{self.app_id}-r{self.revision}-{self.number}"

    @property
    def socket(self) -> str:
        """The ``.socket`` unit."""
        return f"flyted-app-{self.server}.socket"

    @property
    def service(self) -> str:
        """The ``.service`` unit; equal stems pair the two (docs/TRANSIENT-SETTINGS.md of systemd)."""
        return f"flyted-app-{self.server}.service"


_UNIT = re.compile(r"flyted-app-(?P<id>[a-z0-9-]+)-r(?P<revision>[0-9]{1,9})-(?P<number>[0-9]{1,4})\.(socket|service)")


def replica_of(unit: str) -> Replica | None:
    """The replica that a unit name belongs to; ``None`` for units that are not an app's."""
    found = _UNIT.fullmatch(unit)
    if found is None:
        return None
    return Replica(found["id"], int(found["revision"]), int(found["number"]))


WAY_OUT = "flyted-net.service"
"""The unit that all networks of apps lead to."""


def network_of(replica: Replica) -> str:
    """The unit that holds the network namespace of a replica (units/flyted-net@.service)."""
    return f"flyted-net@{replica.server}.service"


def user_of(app_id: str) -> str:
    """The app's own user (``DynamicUser=`` with ``User=``): the same for all its revisions, so they share state."""
    name = f"fa-{app_id}"
    if len(name) <= _USER_LENGTH:
        return name
    return f"fa-{app_id[: _USER_LENGTH - 12].rstrip('-')}-{hashlib.sha256(app_id.encode()).hexdigest()[:8]}"


def state_name(app_id: str) -> str:
    """The folder below /var/lib and /var/cache that an app keeps across revisions."""
    return f"flyted-app-{app_id}"


def host_of(app_id: str, base_domain: str = BASE_DOMAIN) -> str:
    """The host name under which the ingress serves an app."""
    return f"{app_id}.{base_domain}"


def label(value: str, kind: str) -> str:
    """A name of Flyte's (app, project, domain): RFC 1123 label, 1-63 characters."""
    if not isinstance(value, str) or _LABEL.fullmatch(value) is None:
        raise InvalidInput(
            f"{kind} {shown(value)} is not valid",
            hint="use 1-63 of a-z, 0-9 and '-', not at the beginning or end",
        )
    return value


def model_name(text: object) -> str:
    """A model as a hub names it, ``Qwen/Qwen3-0.6B``, with a tag where it has one; raises :class:`InvalidInput`."""
    if not isinstance(text, str) or _MODEL.fullmatch(text) is None:
        raise InvalidInput(
            f"{shown(text)} is no name of a model", hint="give it as in model_hf_path=, for example Qwen/Qwen3-0.6B"
        )
    return text


def link_target(value: str) -> str:
    """Where a link of an app leads: a path of the app, or an address elsewhere.

    What is put behind a host name begins with one slash: ``@evil.example/`` would make the name a user's, and two
    slashes begin another host. Raises :class:`InvalidInput`.
    """
    if not isinstance(value, str) or _LINK.fullmatch(value) is None:
        raise InvalidInput(
            f"link {shown(value)} leads nowhere", hint="write it as /docs, or with another host as https://host/path"
        )
    return value


def secret_key(value: str) -> str:
    """The key of a secret, ``KEY`` or ``GROUP/KEY``: two groups may have a secret of the same name."""
    parts = value.split("/") if isinstance(value, str) else []
    if len(parts) not in (1, 2) or not all(_SECRET_NAME.fullmatch(part) and ".." not in part for part in parts):
        raise InvalidInput(
            f"secret key {shown(value)} is not valid",
            hint="use 1-128 of A-Z, a-z, 0-9, '_', '-' and '.', not beginning with '-' or '.', without '..'; "
            "write GROUP/KEY for a secret of a group",
        )
    return value


def secret_file(value: str) -> str:
    """The name of the file in which an app finds a secret: a key without its group."""
    secret_key(value)
    if "/" in value:
        raise InvalidInput(f"{shown(value)} is not the name of a secret's file", hint="leave the group out")
    return value


def env_name(value: str) -> str:
    """The name of a variable that an app is given, secret or not."""
    if not isinstance(value, str) or _ENV.fullmatch(value) is None:
        raise InvalidInput(
            f"environment variable {shown(value)} is not valid", hint="use A-Z, 0-9 and '_', not a digit first"
        )
    if _ENV_DENIED.fullmatch(value):
        raise InvalidInput(
            f"environment variable '{value}' may not be set for an app: it would change which code runs",
            hint="choose another name",
        )
    return value


def shown(value: object) -> str:
    """An untrusted value as one printable, bounded word for a message: no control character survives.

    What is too long loses its middle: of a path the end says which file it is.
    """
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:38]}...{text[-39:]}"
