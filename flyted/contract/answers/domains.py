"""The answers about base domains, at which apps are served besides the machine's own."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.answers.codec import Answer
from flyted.contract.names import at_port, own_host


@dataclass(frozen=True, slots=True)
class OrderStatus(Answer):
    """A certificate that an ACME authority gives for one name of a base domain."""

    name: str
    issuer: str  # "" if there is none yet
    not_before: float  # seconds since 1970; 0 if there is none yet
    not_after: float
    next_order: float  # when it is ordered next; a time that is over: now
    problem: str  # why the last order failed; ""
    hint: str  # what to do about that


@dataclass(frozen=True, slots=True)
class RevocationStatus(Answer):
    """A certificate that an ACME authority is to revoke."""

    name: str  # the host name that it is for
    fingerprint: str  # its SHA-256
    waits_for: str  # certificate: another one in its place; ingress: to take that; authority: to revoke it
    problem: str  # why the authority has not revoked it; ""
    hint: str  # what to do about that


@dataclass(frozen=True, slots=True)
class DomainStatus(Answer):
    """A base domain."""

    domain: str
    certificate: str  # own-ca; file: the operator gave it; acme: an ACME authority gives one for each app
    issuer: str  # who signed it
    fingerprint: str  # SHA-256 of the certificate
    not_before: float  # seconds since 1970
    not_after: float
    authority: str  # SHA-256 of this machine's authority that signed it; "" for any other
    authority_pem: str  # and that authority's certificate, which is public
    shown: bool  # whether it is in the URLs of apps
    problem: str  # what is wrong with it; ""
    hint: str  # what to type then
    email: str = ""  # of the account at an ACME authority
    server: str = ""  # that authority's directory
    dns: str = ""  # the DNS provider by which names are proved; "": by HTTP
    orders: tuple[OrderStatus, ...] = ()
    https_port: int = 443  # on which the ingress listens
    http_port: int = 80
    api: str = ""  # the host name at which flyted's API is served; "": it is not
    revocations: tuple[RevocationStatus, ...] = ()  # of certificates that are to be revoked
    redirect: str = ""  # the base domain that clients of apps are sent to; "": they are served
    given_until: float = 0.0  # until when the operator's certificate stands in for ordered ones; 0: it does not

    @property
    def port(self) -> str:
        """What follows a host in the ingress's addresses: its port, if that is not HTTPS's usual one."""
        return at_port("", self.https_port)

    @property
    def own_name(self) -> str:
        """The name of flyted itself at the domain: of its API, and of the page about its authority."""
        return own_host(self.domain)

    @property
    def state(self) -> str:
        """What is wrong with its certificates, or how many are still on order or to be revoked, or "ok"."""
        missing, old = sum(not each.issuer for each in self.orders), len(self.revocations)
        if self.problem:
            return self.problem
        if missing:
            return f"{missing} of {len(self.orders)} certificates are on order"
        return f"{old} certificate{'s are' if old > 1 else ' is'} to be revoked" if old else "ok"


@dataclass(frozen=True, slots=True)
class DomainList(Answer):
    """The answer of `domain.list`."""

    domains: tuple[DomainStatus, ...]


@dataclass(frozen=True, slots=True)
class DomainPreview(Answer):
    """The answer of `domain.preview`: what a base domain would change."""

    listens: tuple[str, ...]  # addresses that the ingress listens on now
    would_listen: tuple[str, ...]
    open_apps: tuple[str, ...]  # apps that require no token
    apps: int  # all of them
    shown: str  # the base domain in their URLs now
    would_show: str
