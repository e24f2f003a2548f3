"""Finds out, as far as this machine can, whether clients elsewhere reach its apps at a base domain."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flytectl.addresses import is_here, own_public
from flyted.contract.answers.domains import DomainStatus
from flyted.contract.answers.machine import Check

TIMEOUT_S = 5.0
MOST_NAMES = 3
PROBE = "/.well-known/acme-challenge/flyted-test"
"""A path like those that an ACME authority asks for."""
_OURS = ("404: flyted alone answers", "421: this machine has no app", "flyted-test.")
"""How the ingress's answer to it begins: for an app, for nobody's name, and while a certificate is ordered."""
OUTSIDE = (
    "Whether the internet reaches this machine cannot be seen from here: open https://{} on a phone without Wi-Fi."
)


@dataclass(frozen=True)
class Address:
    """An address that a name leads to."""

    text: str
    here: bool


def names_of(domain: DomainStatus) -> tuple[str, ...]:
    """Return the names to try: flyted's API, a few that certificates are ordered for, and one that is nobody's."""
    ordered = [each.name for each in domain.orders if each.name != domain.api and not each.name.startswith("*.")]
    own = (domain.api,) if domain.api else ()
    return (*own, *ordered[:MOST_NAMES], nobody(domain))


def run(domain: DomainStatus) -> list[Check]:
    """Return the results of all checks, in the order in which a client depends on them."""
    found: list[Check] = []
    for name in names_of(domain):
        addresses = resolve(name)
        found.append(judged(name, addresses, domain, public=own_public()))
        if addresses:
            found += [*_http(name, domain), _https(name, domain, [each.text for each in addresses if each.here])]
    found.append(Check("certificate", domain.state == "ok" or None, domain.state, domain.hint))
    return found


def at_first(domain: DomainStatus) -> list[Check]:
    """Return what is wrong, or cannot be seen, before there are certificates: in DNS, and where an authority asks."""
    name = nobody(domain)
    addresses = resolve(name)
    found = [judged(name, addresses, domain, public=own_public())]
    return [each for each in (*found, *(_http(name, domain) if addresses else ())) if not each.ok]


def nobody(domain: DomainStatus) -> str:
    """Return a name that only a wildcard record leads here."""
    return f"flyted-test.{domain.domain}"


def resolve(name: str) -> list[Address]:
    """Return the addresses of a name, as this machine's resolver knows them."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)}
    except OSError:
        return []
    return [Address(text, is_here(text)) for text in sorted(found)]


def judged(name: str, addresses: Sequence[Address], domain: DomainStatus, *, public: Sequence[str]) -> Check:
    """Return what is to be said of a name's addresses. ``public``: the addresses of this machine on the internet."""
    record = f"make a DNS record: *.{domain.domain} to {' and '.join(public) or 'the address of your router'}"
    if not addresses:
        return Check(name, ok=False, detail="has no address in DNS", hint=record)
    told = "leads to " + ", ".join(each.text for each in addresses)
    elsewhere = [each.text for each in addresses if not each.here]
    if not elsewhere:
        private = [each.text for each in addresses if not ipaddress.ip_address(each.text).is_global]
        note = ", which the internet cannot reach" if domain.server and len(private) == len(addresses) else ""
        return Check(name, None if note else True, f"{told}: this machine{note}", record)
    return Check(
        name, None, f"{told}: {', '.join(elsewhere)} is none of this machine's addresses",
        f"right if it is your router's, which has to forward ports {domain.https_port} and {domain.http_port}, or a "
        f"proxy's such as Cloudflare's; else {record}",
    )  # fmt: skip


def _http(name: str, domain: DomainStatus) -> Iterator[Check]:
    """Check port 80, if an authority asks there."""
    if not domain.server or domain.dns:
        return
    what, said = f"{name}:{domain.http_port}", ""
    try:
        with socket.create_connection((name, domain.http_port), TIMEOUT_S) as connection:
            connection.sendall(f"GET {PROBE} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            with connection.makefile("rb") as answer:
                said = answer.read(4096).decode("ascii", "replace")
    except OSError as error:
        yield _unreached(what, error)
        return
    status = said.split(" ", 2)[1] if said.startswith("HTTP/1.") and " " in said else "nothing"
    body = said.partition("\r\n\r\n")[2]
    ours = body.startswith(_OURS)
    detail = "this machine answers" if ours else f"another server answers there ({status})"
    yield Check(what, ours, detail, f"stop that server, or correct the DNS record of {name}")


def _https(name: str, domain: DomainStatus, here: Sequence[str]) -> Check:
    """Check that the certificate that a client meets at a name is the one that this machine shows for it."""
    what = f"{name}:{domain.https_port}"
    try:
        met = _certificate((name, domain.https_port), name)
    except OSError as error:
        return _unreached(what, error)
    own = _own_certificate(("127.0.0.1", "::1", *here), domain.https_port, name)
    if own is None:
        return Check(
            what,
            ok=False,
            detail="the ingress does not answer on this machine",
            hint="systemctl status flyted-ingress",
        )
    return Check(
        what, met == own, "this machine answers" if met == own else "another server answers there",
        f"stop that server, or correct the DNS record of {name}",
    )  # fmt: skip


def _own_certificate(addresses: Sequence[str], port: int, name: str) -> str | None:
    """Return the digest of the certificate that this machine shows for a name, where it listens."""
    for address in addresses:
        with contextlib.suppress(OSError):
            return _certificate((address, port), name)
    return None


def _certificate(address: tuple[str, int], name: str) -> str:
    """Return the digest of the certificate that a server shows for a name, whoever signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(address, TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()


def _unreached(what: str, error: OSError) -> Check:
    return Check(
        what, None, f"cannot be reached from this machine: {error.strerror or error}",
        "see the firewall and the router's port forwarding; some routers do not lead their own address back inside, "
        "and then this says nothing",
    )  # fmt: skip
