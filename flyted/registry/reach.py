"""Connects to registries, and to nothing that only this machine can reach.

An address is checked when it is connected to, so a name that leads elsewhere the next time gains nothing. The unit's
own list of closed networks is a second barrier; it drops packets, and here it is said why.
"""

from __future__ import annotations

import base64
import functools
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from .failed import Failed, Unavailable, Untrusted, printable
from .url import PORTS, Url
from .watch import Watch
from .words import EX_CONFIG, EX_REFUSED, EX_UNAVAILABLE

CLOSED = (
    "127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128",  # this machine; Linux connects the last two to its loopback
    "169.254.0.0/16", "fe80::/10",  # link-local, with the metadata service of most clouds
    "fd00:ec2::/32", "fd20:ce::/32", "168.63.129.16/32", "100.100.100.200/32",  # those of AWS, Google, Azure, Alibaba
    "224.0.0.0/4", "ff00::/8", "255.255.255.255/32",  # multicast and broadcast
)  # fmt: skip
"""The networks that nothing is pulled from, unless a setting names the server."""
_NETWORKS = [ipaddress.ip_network(each) for each in CLOSED]
_WITH_IPV4 = [ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96")]
_MOST_ADDRESSES = 4
_CONNECT_S = 10
_PASSING = (408, 425, 429)
"""Statuses below 500 that may be others in a moment (RFC 9110)."""


@dataclass(frozen=True)
class Reach:
    """The rules by which servers are connected to. ``mirrors``: a registry's name → the address of its mirror."""

    mirrors: Mapping[str, Url] = field(default_factory=dict)
    timeout_s: float = 30

    def configured(self, url: Url) -> bool:
        """Report whether a setting names this server, with this scheme."""
        return any(url.origin == mirror.origin for mirror in self.mirrors.values())

    def connect(self, url: Url) -> tuple[socket.socket, Watch]:
        """Return a connection to the server of ``url``, with TLS for https, and the watch over it.

        Raises :class:`Failed` for an address that is closed, or a certificate that is not trusted;
        :class:`Unavailable`.
        """
        if url.scheme == "http" and not self.configured(url):
            raise Failed(EX_REFUSED, f"{url.server} would be asked over plain HTTP, where others can change an image")
        proxy = proxy_of(url)
        connected = self._to_proxy(url, proxy) if proxy else self._direct(url)
        watch = Watch(connected, self.timeout_s)
        try:
            if proxy and url.scheme == "https":
                _tunnel(connected, url, proxy)
            return (_tls(connected, url) if url.scheme == "https" else connected), watch
        except (Failed, OSError) as error:
            watch.stop()
            connected.close()
            if watch.stalled or isinstance(error, TimeoutError):
                raise Unavailable(f"{url.server} stalled") from None
            if isinstance(error, Failed):
                raise
            raise Unavailable(f"{url.server} broke off: {_why(error)}") from None

    def _direct(self, url: Url) -> socket.socket:
        """Return a TCP connection to the first of the server's addresses that is not closed and answers."""
        error: OSError | None = None
        for address in self._open(url, _addresses(url.host, url.port)):
            try:
                return self._tcp(address)
            except OSError as failure:
                error = failure
        raise Unavailable(f"{url.server} cannot be reached: {_why(error)}")

    def _tcp(self, address: tuple[str, int]) -> socket.socket:
        connected = socket.create_connection(address, min(self.timeout_s, _CONNECT_S))
        connected.settimeout(self.timeout_s)
        return connected

    def _open(self, url: Url, addresses: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return the addresses that may be connected to. Raises :class:`Failed` if none may."""
        if self.configured(url):
            return addresses
        found = [each for each in addresses if not closed(each[0])]
        if not found:
            raise Failed(
                EX_REFUSED, f"{url.server} is at {addresses[0][0]}, an address that only this machine can reach"
            )
        return found

    def _to_proxy(self, url: Url, proxy: Proxy) -> socket.socket:
        """Return a connection to a proxy. Addresses that this machine knows for the server's name are checked, too."""
        try:
            known = _addresses(url.host, url.port)
        except Unavailable:
            known = []  # often only the proxy can resolve names
        if known:
            self._open(url, known)
        try:
            return self._tcp(_addresses(proxy.host, proxy.port)[0])
        except OSError as error:
            raise Unavailable(f"the proxy {proxy.host}:{proxy.port} cannot be reached: {_why(error)}") from error


@dataclass(frozen=True)
class Proxy:
    """A proxy of the environment. ``authorization``: its header, or empty."""

    host: str
    port: int
    authorization: str


def proxy_of(url: Url) -> Proxy | None:
    """Return the proxy for an address by HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY; ``None``: no proxy.

    Raises :class:`Failed` for a proxy that is not written as an address.
    """
    proxies = getproxies_environment()
    text = proxies.get(url.scheme) or proxies.get("all", "")
    if not text or proxy_bypass(url.server):
        return None
    try:
        found = urlsplit(text if "://" in text else f"http://{text}")
        port = found.port or PORTS["http"]
    except ValueError:
        found, port = urlsplit(""), 0
    if found.scheme != "http" or not found.hostname or not port:
        raise Failed(EX_CONFIG, f"the proxy for {url.scheme} is not of the form http://HOST:PORT")
    login = f"{unquote(found.username)}:{unquote(found.password or '')}" if found.username else ""
    authorization = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
    return Proxy(found.hostname, port, authorization)


def closed(address: str) -> bool:
    """Report whether an IP address is in :data:`CLOSED`, also written as IPv6 or for a NAT64 (RFC 4291, RFC 6052)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and any(ip in network for network in _WITH_IPV4):
        ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return any(ip in network for network in _NETWORKS if ip.version == network.version)


def _addresses(host: str, port: int) -> list[tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"the name {host} cannot be resolved: {_why(error)}") from None
    return [(str(each[4][0]), port) for each in found[:_MOST_ADDRESSES]]


def _tunnel(connected: socket.socket, url: Url, proxy: Proxy) -> None:
    """Ask a proxy for a tunnel to the server (RFC 9110, CONNECT)."""
    server = f"{url.server}:443" if url.port == PORTS["https"] else url.server
    lines = [f"CONNECT {server} HTTP/1.1", f"Host: {server}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    connected.sendall("\r\n".join([*lines, "", ""]).encode())
    reply = http.client.HTTPResponse(connected, method="CONNECT")
    try:
        reply.begin()
    except http.client.HTTPException as error:
        raise Unavailable(f"the proxy does not answer like one: {type(error).__name__}") from None
    finally:
        reply.close()  # its buffer, not the connection: no data arrives before TLS begins
    said = f"the proxy answers {reply.status} {printable(reply.reason)} for {url.server}"
    if reply.status == 407:
        raise Failed(EX_UNAVAILABLE, f"the proxy {proxy.host}:{proxy.port} requires a login, or another one ({said})")
    if 400 <= reply.status < 500 and reply.status not in _PASSING:
        raise Failed(EX_UNAVAILABLE, said)  # what it forbids now it forbids in a second, too
    if reply.status != 200:
        raise Unavailable(said)


def _tls(connected: socket.socket, url: Url) -> socket.socket:
    try:
        return _context().wrap_socket(connected, server_hostname=url.host)
    except ssl.SSLCertVerificationError as error:
        why = f"the certificate of {url.server} is not trusted: {printable(error.verify_message)}"
        raise Untrusted(why) from None
    except ssl.SSLError as error:
        if error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}:
            raise Failed(EX_UNAVAILABLE, f"{url.server} does not speak TLS") from None
        raise


@functools.cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _why(error: BaseException | None) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return printable(getattr(error, "strerror", None) or str(error))
