"""Reads addresses of the web, as far as a registry needs them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

_LONGEST = 8192  # signed addresses of object stores have some 2,000
_LONGEST_LABEL = 63  # of a host name (RFC 1035): TLS takes no longer one, even where only a proxy resolves it
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Url:
    """An address. ``target``: path and query, as a request names them."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """What has to be the same for an answer to come from the same server (RFC 6454)."""
        return self.scheme, self.host, self.port

    @property
    def server(self) -> str:
        """Host and port, as in a ``Host:`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.server}{self.target}"


def parse(text: str, base: Url | None = None) -> Url:
    """Return an address, which may be relative to ``base``.

    Raises ``ValueError`` for one that is neither http nor https, or has a login in it.
    """
    if len(text) > _LONGEST or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("it is not an address")
    found = urlsplit(urljoin(str(base), text) if base else text)
    if found.scheme not in PORTS or not found.hostname:
        raise ValueError("it is not an address that begins with https:// or http://")
    if not all(0 < len(label) <= _LONGEST_LABEL for label in found.hostname.removesuffix(".").split(".")):
        raise ValueError("its host is not a name")
    if found.username is not None or found.password is not None:
        raise ValueError("it contains a login")
    port = PORTS[found.scheme] if found.port is None else found.port
    if not 0 < port < 65536:
        raise ValueError("it has no usable port")
    target = (found.path or "/") + (f"?{found.query}" if found.query else "")
    return Url(found.scheme, found.hostname, port, target)
