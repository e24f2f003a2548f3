"""Reads the daemon's settings once from /etc/flyted/flyted.toml: a row for each. A test compares flyted.toml(5)."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import BASE_DOMAIN, base_domain, printable
from flyted.contract.quantity import memory_bytes
from flyted.contract.texts import plain_text
from flyted.plan.freeze import POLICIES, FreezeRules
from flyted.plan.images.build_secrets import machine_secrets
from flyted.plan.images.pull_unit import login_use, mirrors
from flyted.plan.ingress import no_wake
from flyted.plan.ingress.clients import CONNECTIONS, REQUESTS_PER_S, WAITING, ClientRules
from flyted.plan.units import START_S

PATH = Path("/etc/flyted/flyted.toml")


@dataclass(frozen=True)
class Settings:
    """All settings, checked."""

    https_port: int = 443
    http_port: int = 80
    listen: tuple[str, ...] = ("127.0.0.1", "::1")
    base_domain: str = BASE_DOMAIN
    start_timeout_s: int = START_S
    build_environment: dict[str, str] = field(default_factory=dict)
    build_secrets: dict[str, str] = field(default_factory=dict)
    gpu_wait_s: int = 120
    mirrors: dict[str, str] = field(default_factory=dict)
    layer_size: str = "32Gi"
    registry_secret: str = ""
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: tuple[str, ...] = ()
    access_log: bool = False
    requests_per_s: float = REQUESTS_PER_S
    connections: int = CONNECTIONS
    body_bytes: int = 0
    waiting: int = WAITING
    url_domain: str = ""
    freeze: str = "never"
    stop_after_s: int = 3600
    no_wake_paths: tuple[str, ...] = no_wake.PATHS
    waiting_page: bool = True

    @property
    def freeze_rules(self) -> FreezeRules:
        """Which idle apps are frozen, and for how long."""
        return FreezeRules(self.freeze, self.stop_after_s)

    @property
    def clients(self) -> ClientRules:
        """What the ingress takes from clients."""
        return ClientRules(
            self.trusted_proxies, self.proxy_protocol, self.requests_per_s, self.connections, self.body_bytes,
            self.waiting, self.access_log, self.no_wake_paths, self.waiting_page,
        )  # fmt: skip


def _port(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 65535:
        raise InvalidInput("must be a port, 1 to 65535")
    return value


def _addresses(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise InvalidInput('must be a list of IP addresses, such as ["127.0.0.1", "::1"]')
    try:
        return tuple(str(ipaddress.ip_address(a)) for a in value)
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def _networks(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidInput('must be a list of addresses and networks, such as ["192.0.2.1", "10.0.0.0/8"]')
    try:
        return tuple(str(ipaddress.ip_network(each)) for each in value)
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput("must be true or false")
    return value


def _rate(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput("must be a number of requests a second, or 0 for no limit")
    return ClientRules(requests_per_s=float(value)).requests_per_s


def _count(value: Any) -> int:
    if type(value) is not int:
        raise InvalidInput("must be a whole number, or 0 for no limit")
    return ClientRules(connections=value).connections


def _bytes(value: Any) -> int:
    if isinstance(value, str):
        return memory_bytes(value, "size")
    if type(value) is not int:
        raise InvalidInput('must be a number of bytes or a size, such as "100Mi", or 0 for no limit')
    return ClientRules(body_bytes=value).body_bytes


def _domain(value: Any) -> str:
    try:
        return base_domain(value)
    except InvalidInput as error:
        raise InvalidInput("must be a domain of at least two labels, such as apps.localhost") from error


def _url_domain(value: Any) -> str:
    return "" if value == "" else _domain(value)


def _seconds(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 3600:
        raise InvalidInput("must be a whole number of seconds, 1 to 3600")
    return value


def _freeze(value: Any) -> str:
    if value not in POLICIES:
        raise InvalidInput('must be "auto", "always" or "never"')
    return str(value)


def _stop_after(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 30 * 86400:
        raise InvalidInput("must be a whole number of seconds, 1 to 2592000 (30 days)")
    return value


def _no_wake(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidInput('must be a list of paths, such as ["/favicon.ico", "/health"]')
    return no_wake.checked(value)


def _environment(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidInput("must be a table of names and strings")
    for name, text in value.items():
        if re.fullmatch(r"(?:UV|PIP|SSL|HTTP|HTTPS|NO|ALL|http|https|no|all)_[A-Za-z_]{1,60}", name) is None:
            raise InvalidInput(f"{printable(name)} is not a variable of uv, a proxy or TLS")
        plain_text(text, name, limit=2048)
    return dict(value)


def _secrets(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value.values()):
        raise InvalidInput("must be a table of variables and secret names")
    try:
        machine_secrets(value)
    except Unsupported as error:
        raise InvalidInput(error.message) from error
    return dict(value)


def _size(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput('must be a size, such as "32Gi"')
    memory_bytes(value, "size")
    return value


def _secret(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput('must be the name of a secret, such as "registries"')
    return login_use(value).key if value else ""


def _mirrors(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidInput("must be a table of registries and addresses")
    return mirrors(value)


@dataclass(frozen=True)
class Setting:
    """One row: its place in the file, the field that it fills, and its check, which raises :class:`InvalidInput`."""

    table: str
    key: str
    field: str
    parse: Callable[[Any], Any]
    help: str


SETTINGS = (
    Setting(
        "ingress", "https_port", "https_port", _port, "Port for HTTPS; another free one is taken if it is in use."
    ),
    Setting("ingress", "http_port", "http_port", _port, "Port for HTTP, which only redirects to HTTPS."),
    Setting("ingress", "listen", "listen", _addresses, "Addresses that the ingress listens on."),
    Setting("ingress", "base_domain", "base_domain", _domain, "Apps are served as APP.base_domain."),
    Setting("ingress", "url_domain", "url_domain", _url_domain, "The domain in the URLs of apps, of flytectl domain."),
    Setting("ingress", "trusted_proxies", "trusted_proxies", _networks, "Proxies whose X-Forwarded-For counts."),
    Setting("ingress", "proxy_protocol", "proxy_protocol", _networks, "Proxies that send the PROXY protocol."),
    Setting("ingress", "access_log", "access_log", _switch, "Log each request, not only those that fail."),
    Setting("ingress", "waiting_page", "waiting_page", _switch, "A page for browsers while an app starts."),
    Setting("limits", "requests_per_s", "requests_per_s", _rate, "Requests a second of one client at one app."),
    Setting("limits", "connections", "connections", _count, "Connections of one client."),
    Setting("limits", "body_bytes", "body_bytes", _bytes, "The longest body of a request."),
    Setting("limits", "waiting", "waiting", _count, "Requests that may wait for one app."),
    Setting("apps", "start_timeout", "start_timeout_s", _seconds, "Seconds that an app may take to become ready."),
    Setting("apps", "gpu_wait", "gpu_wait_s", _seconds, "Seconds that a start waits for a GPU that others hold."),
    Setting("apps", "freeze", "freeze", _freeze, "Which idle apps are frozen before they are stopped."),
    Setting("apps", "stop_after", "stop_after_s", _stop_after, "Seconds for which an idle app stays frozen."),
    Setting("apps", "no_wake_paths", "no_wake_paths", _no_wake, "Paths whose requests wake no app."),
    Setting("images", "layer_size", "layer_size", _size, "Disk space that one step of an image's build may use."),
    Setting("images", "mirrors", "mirrors", _mirrors, "Registry → address of its mirror."),
    Setting("images", "registry_secret", "registry_secret", _secret, "Secret with the logins of registries."),
    Setting("images", "environment", "build_environment", _environment, "Variables for uv: UV_*, SSL_*, proxies."),
    Setting("images", "secrets", "build_secrets", _secrets, "Variables for uv whose values are secrets of the store."),
)


def read(path: Path = PATH) -> Settings:
    """Return the settings in ``path``, or the defaults if there is no such file.

    Raises :class:`InvalidInput` that names the file and the setting; an unknown one is refused, not ignored.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", hint=f"sudoedit {path}") from error
    rows = {(row.table, row.key): row for row in SETTINGS}
    values: dict[str, Any] = {}
    for table, entries in data.items():
        for key, value in entries.items() if isinstance(entries, dict) else [("", entries)]:
            row = rows.get((table, key))
            name = f"{table}.{key}".rstrip(".")
            if row is None:
                raise InvalidInput(f"{path}: there is no setting {printable(name)}", hint="man flyted.toml")
            try:
                values[row.field] = row.parse(value)
            except InvalidInput as error:
                raise InvalidInput(f"{path}: {name} {error.message}", hint=f"sudoedit {path}") from error
    return Settings(**values)
