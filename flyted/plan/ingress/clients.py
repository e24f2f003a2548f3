"""The ingress's rules about its clients: whose address counts, and how much one may ask for. Pure.

A client is an address, or in IPv6 a network of 64 bits, all of whose addresses one machine may have. A trusted proxy
names the address of its client in X-Forwarded-For; from others that header does not count.

Only requests that are let through are counted, so a client that asks too often still gets as much as is allowed.

HTTP/2 has many requests on one connection, and each of them takes a connection to an app, of which HAProxy has as many
as of clients. So a client has no more requests at once than it may have connections.

Sources: HAProxy's configuration.txt (stick tables, set-src, expect-proxy), RFC 6585 4 (429), RFC 9110 15.5.12 (411)
and 15.5.14 (413).
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass

from flyted.contract.app import MAX_RATE, MIN_RATE
from flyted.contract.errors import InvalidInput
from flyted.plan.ingress import no_wake

LIMITS = "limits.map"
PERIOD_S = 10
"""Seconds over which requests are counted: a page that loads a hundred files at once is no attack."""
REQUESTS_PER_S = 100
"""The requests a second of a client from another machine at one app, where nothing else is set."""
CONNECTIONS = 500
"""The connections of such a client, and its requests at once, where nothing else is set."""
WAITING = 2000
"""The requests that may wait for an app, where nothing else is set."""
VALUE = re.compile(r"(?:0|[1-9][0-9]{0,7}) (?:h2c|-)")
_HOPS = 3
"""Trusted proxies behind each other, as in a home behind a provider's."""


@dataclass(frozen=True)
class ClientRules:
    """What the ingress takes from clients. 0: no limit.

    ``trusted_proxies``: addresses and networks whose X-Forwarded-For counts; ``proxy_protocol``: those that send the
    PROXY protocol. ``requests_per_s`` and ``connections`` are for one client from another machine, the former for each
    app; ``body_bytes`` is for the body of one request. ``waiting``: the requests that may wait for one app
    (waiting.py). ``access_log``: log each request, not only failures.
    ``no_wake_paths``: requests for these wake no app (no_wake.py). ``waiting_page``: whether browsers get a
    page while an app starts (start_page.py).
    """

    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: tuple[str, ...] = ()
    requests_per_s: float = REQUESTS_PER_S
    connections: int = CONNECTIONS
    body_bytes: int = 0
    waiting: int = WAITING
    access_log: bool = False
    no_wake_paths: tuple[str, ...] = no_wake.PATHS
    waiting_page: bool = True

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInput` for a limit that is not valid, and for what is no address or network."""
        for network in (*self.trusted_proxies, *self.proxy_protocol):
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise InvalidInput(f"{error}") from error
        if self.requests_per_s and not MIN_RATE <= self.requests_per_s <= MAX_RATE:
            raise InvalidInput(f"must be {MIN_RATE} to {MAX_RATE} requests a second, or 0 for no limit")
        if min(self.connections, self.body_bytes, self.waiting) < 0:
            raise InvalidInput("must be 0, for no limit, or more")
        no_wake.checked(self.no_wake_paths)


def limits_value(requests_per_s: float, *, h2c: bool) -> str:
    """Return the value of an app in the table of limits; "" if it needs none.

    ``requests_per_s``: the app's own limit of one client, 0 for the machine's. ``h2c``: it speaks gRPC, whose requests
    have no length.
    """
    if not requests_per_s and not h2c:
        return ""
    return f"{math.ceil(requests_per_s * PERIOD_S)} {'h2c' if h2c else '-'}"


TABLES = """backend clients
    stick-table type binary len 20 size 100k expire 1m store gpc0,gpc0_rate(@PERIOD_S@s)
backend at_once
    stick-table type ipv6 size 100k expire 1m store conn_cur
"""

SOURCE = r"""    # a trusted proxy says who its client is; the last address that no such proxy has is the client's
    acl by_proxy src @PROXIES@
"""
_HOP = r"""    http-request set-src req.hdr_ip(x-forwarded-for,-@HOP@) \
if by_proxy { req.hdr_ip(x-forwarded-for,-@HOP@) -m found }
"""

RULES = r"""    acl here src 127.0.0.0/8 ::1
    http-request set-var(txn.limits) var(txn.app),map(@FILES@/@LIMITS@)
    http-request set-var(txn.most) int(@MOST@) unless here
    http-request set-var(txn.own) var(txn.limits),word(1,' ')
    http-request set-var(txn.most) var(txn.own),add(0) if { var(txn.own),add(0) gt 0 }
    acl limited var(txn.most) -m int gt 0
    http-request track-sc1 src,ipmask(32,64),concat(' ',txn.app),sha1 table clients if limited
    http-request return status 429 @TEXT@ hdr Retry-After 1 @OWN@ \
lf-string "429: too many requests: %[var(txn.most),div(@PERIOD_S@)] a second of one client are allowed here\n" \
if limited { sc1_gpc0_rate(clients),sub(txn.most) ge 0 }
    http-request sc-inc-gpc0(1) if limited
"""

TRACKED = r"""    # HAProxy has three counters for a request; this one is of the token, if there is a valid one
    http-request track-sc2 src,ipmask(32,64) table at_once unless known
"""
AT_ONCE = r"""    http-request return status 429 @TEXT@ hdr Retry-After 1 @OWN@ \
string "429: too many requests at once: @MOST@ of one client are allowed\n" \
if !known { sc2_conn_cur(at_once) gt @MOST@ }"""

BODY = r"""    acl long_body req.hdr_val(content-length) gt @BODY_BYTES@
    acl no_length req.fhdr_cnt(content-length) eq 0
    acl grpc var(txn.limits),word(2,' ') -m str h2c
    http-request return status 413 @TEXT@ @OWN@ hdr Connection close \
string "413: this body is larger than @BODY_BYTES@ bytes, the limit of this machine\n" if long_body
    http-request return status 411 @TEXT@ @OWN@ hdr Connection close \
string "411: send the length of the body (Content-Length): this machine limits it\n" \
if no_length { method POST PUT PATCH } !grpc || no_length { req.fhdr(transfer-encoding) -m found } !grpc
"""


def tables() -> str:
    """Return the stick tables of the rules, as sections of their own."""
    return TABLES.replace("@PERIOD_S@", str(PERIOD_S))


def connection_rules(rules: ClientRules) -> str:
    """Return what precedes all other rules about connections: who sends the PROXY protocol."""
    if not rules.proxy_protocol:
        return ""
    return f"    tcp-request connection expect-proxy layer4 if {{ src {' '.join(rules.proxy_protocol)} }}\n"


def crowd_rules(rules: ClientRules) -> str:
    """Return what limits the connections of a client from another machine; a trusted proxy has those of many."""
    if not rules.connections:
        return ""
    return f"    tcp-request connection reject if {{ sc0_conn_cur gt {rules.connections} }} {_elsewhere(rules)}\n"


def at_once_rules(rules: ClientRules, most: int) -> str:
    """Return the rules that limit a client's requests at once. They stand behind those about tokens (``known``).

    ``most``: the limit of any address, including this machine's and a trusted proxy's.
    """
    rule = AT_ONCE.replace("\\\n", "")
    text = TRACKED + rule.replace("@MOST@", str(most)) + "\n"
    if rules.connections:
        text += f"{rule.replace('@MOST@', str(rules.connections))} {_elsewhere(rules)}\n"
    return text


def _elsewhere(rules: ClientRules) -> str:
    """Return the condition that a client is on another machine, and no trusted proxy."""
    return " ".join(f"!{{ src {network} }}" for network in ("127.0.0.0/8 ::1", *map(" ".join, _proxies(rules))))


def _proxies(rules: ClientRules) -> list[tuple[str, ...]]:
    return [each for each in (rules.trusted_proxies, rules.proxy_protocol) if each]


def source_rules(rules: ClientRules) -> str:
    """Return what makes the client's address that of a trusted proxy's client; first of all rules about requests."""
    if not rules.trusted_proxies:
        return ""
    hops = (_HOP.replace("@HOP@", str(hop)) for hop in range(1, _HOPS + 1))
    return SOURCE.replace("@PROXIES@", " ".join(rules.trusted_proxies)) + "".join(hops)


def request_rules(rules: ClientRules) -> str:
    """Return what limits the requests of a client, behind the checks of the request itself."""
    most = math.ceil(rules.requests_per_s * PERIOD_S)
    text = RULES + (BODY.replace("@BODY_BYTES@", str(rules.body_bytes)) if rules.body_bytes else "")
    for name, value in {"@MOST@": str(most), "@PERIOD_S@": str(PERIOD_S), "@LIMITS@": LIMITS}.items():
        text = text.replace(name, value)
    return text
