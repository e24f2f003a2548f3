"""Defines the unit that has an ACME authority give or revoke a certificate, and says why that failed. Pure.

The unit has a user of its own for the time that it runs: it holds the account's key and, for DNS-01, what may change
the domain's records. What lego writes stays in memory. Sources: RFC 8555 6.7 (the kinds of errors), lego 4.9.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flyted.acme import words
from flyted.contract.acme import LETS_ENCRYPT, STAGING
from flyted.contract.errors import HostFailure
from flyted.plan.facts import UnitEnd
from flyted.plan.images.build_unit import SANDBOX, machine_network
from flyted.plan.images.common_unit import own_lines, plain, python_unit, variables
from flyted.plan.ingress.sites import AcmeSettings

PROGRAM = "/usr/lib/flyted/flyted/acme"
ORDER_MAX_S = 900
"""Seconds that an order may take: some DNS providers take minutes to publish a record."""
REVOCATION_MAX_S = 120
"""Seconds that a revocation may take, which waits for no record."""
_MEMORY_MAX = 256 << 20
_ERROR = "urn:ietf:params:acme:error:"
_PRESENTING = "acme: error presenting token: "
"""What lego says before a DNS provider's answer (lego, challenge/dns01/dns_challenge.go)."""


@dataclass(frozen=True)
class Job:
    """What an order or a revocation needs. ``repr()`` shows neither keys nor variables.

    ``account``, ``request``: PEM. ``revoke``: the certificate to revoke, as PEM; a revocation has no ``request``.
    """

    settings: AcmeSettings
    name: str
    account: bytes = field(repr=False)
    request: bytes = field(default=b"", repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    revoke: str = ""

    def text(self) -> bytes:
        """Return the credential."""
        return json.dumps({
            words.SERVER: self.settings.server,
            words.SERVER_CA: self.settings.server_ca,
            words.EMAIL: self.settings.email,
            words.ACCOUNT: self.account.decode(),
            words.NAME: self.name,
            words.REQUEST: self.request.decode(),
            words.REVOKE: self.revoke,
            words.DNS: self.settings.dns,
            words.VARIABLES: dict(self.variables),
        }).encode()  # fmt: skip


def unit_name(of: str) -> str:
    """Return the name of the unit for an order (of a host name) or a revocation (of a fingerprint)."""
    return f"flyted-acme-{hashlib.sha256(of.encode()).hexdigest()[:32]}.service"


def acme_unit(
    job: Job,
    output_fd: int | None,
    environment: Mapping[str, str],
    addresses: Sequence[str],
    credentials: str = "/run/flyted/credentials.sock",
) -> dict[str, Any]:
    """Return the properties of the transient service that carries out a :class:`Job`.

    ``environment``: proxies. ``addresses``: what the unit may reach of the networks that are closed to apps.
    """
    common = python_unit(
        f"Revocation of a certificate of {job.name}" if job.revoke else f"Order of a certificate for {job.name}",
        [PROGRAM],
        variables("/usr/bin:/bin", environment),
        tag="flyted-acme",
        memory_max=_MEMORY_MAX,
        tasks_max=64,
        output_fd=output_fd,
        runtime_max_s=REVOCATION_MAX_S if job.revoke else ORDER_MAX_S,
        user="",
    )
    return {
        **common,
        **SANDBOX,
        **machine_network(addresses),
        "MemorySwapMax": 0,
        "TemporaryFileSystem": [*SANDBOX["TemporaryFileSystem"], (words.FOLDER, "size=16M,mode=1777,nosuid,nodev")],
        "LoadCredential": [(words.JOB, credentials)],
        "InaccessiblePaths": ["-/var/lib/flyted", "-/var/cache/flyted"],
    }


def chain_of(lines: Iterable[str]) -> bytes:
    """Return the certificate and its chain, PEM, from the output of an order that ended well.

    Raises :class:`HostFailure` if it is not there.
    """
    parts = [line for line in own_lines(lines, words.OURS) if line.startswith(words.CERTIFICATE)]
    try:
        found = base64.b64decode("".join(part.removeprefix(words.CERTIFICATE) for part in parts), validate=True)
    except ValueError:
        found = b""
    if not found:
        raise HostFailure("an order of a certificate ended without one", hint=_LOG)
    return found


def is_revoked(end: UnitEnd, lines: Iterable[str]) -> bool:
    """Report whether a certificate is revoked now. An earlier try may have done it, whose answer was lost."""
    return end == UnitEnd("success", 0) or any(f"{_ERROR}alreadyRevoked" in line for line in lines)


def not_revoked(name: str, settings: AcmeSettings, end: UnitEnd, lines: Sequence[str]) -> HostFailure:
    """Return the error that says why a revocation failed, in the authority's words where it said something."""
    what = f"the old certificate of {name} is not revoked"
    if end.result == "timeout":
        return HostFailure(f"{what}: the authority did not answer within {REVOCATION_MAX_S // 60} minutes", hint=_LOG)
    if end.status == words.EX_NOLEGO:
        return _no_lego()
    if end.status == words.EX_REFUSED:
        told = [plain(line).strip() for line in lines if not line.startswith(words.OURS)]
        answer, unreachable = _answer(told), _unreachable(settings, told)
        if answer or unreachable:
            return HostFailure(f"{what}: {answer[1] if answer else unreachable}", hint=_LOG)
    return HostFailure(f"{what}: {_told(lines) or f'the unit ended with status {end.status}'}", hint=_LOG)


def failure(name: str, settings: AcmeSettings, end: UnitEnd, lines: Sequence[str]) -> HostFailure:
    """Return the error that says why an order failed, in the authority's words where it said something."""
    if end.result == "timeout":
        return HostFailure(f"no certificate for {name} after {ORDER_MAX_S // 60} minutes", hint=_LOG)
    match end.status:
        case words.EX_NOLEGO:
            return _no_lego()
        case words.EX_NORECORD:
            return HostFailure(f"{name} has no DNS record", hint=_hints(name, settings)["dns"])
        case words.EX_REFUSED:
            return _refused(name, settings, [plain(line).strip() for line in lines if not line.startswith(words.OURS)])
    why = _told(lines) or f"the order ended with status {end.status}"
    return HostFailure(f"no certificate for {name}: {why}", hint=_LOG)


def _told(lines: Iterable[str]) -> str:
    """Return what the program said itself, "" if nothing: a part of a certificate, after a kill, says nothing."""
    ours = [line for line in own_lines(lines, words.OURS) if not line.startswith(words.CERTIFICATE)]
    return plain(ours[-1]) if ours else ""


def is_limited(lines: Iterable[str]) -> bool:
    """Report whether the authority takes no more orders of this account, or for this domain, for some time."""
    return any(f"{_ERROR}rateLimited" in line for line in lines)


_LOG = "sudo journalctl -u flyted -n 50"


def _no_lego() -> HostFailure:
    return HostFailure("lego is not installed, which speaks to authorities", hint="sudo apt install lego")


def _refused(name: str, settings: AcmeSettings, lines: Sequence[str]) -> HostFailure:
    if answer := _answer(lines):
        kind, said = answer
        text = f"the authority gives no certificate for {name}: {said}"
        return HostFailure(text, hint=_hints(name, settings).get(kind, _LOG))
    last = next((line for line in reversed(lines) if line), "lego said nothing")
    if "unrecognized DNS provider" in last:
        return HostFailure(f"lego knows no DNS provider {settings.dns}", hint="lego dnshelp lists them")
    if "some credentials information are missing" in last:
        return HostFailure(
            f"{settings.dns} wants other variables: {_after(last, 'missing: ')}", hint=_variables(settings)
        )
    if why := _provider(lines):
        text = f"the DNS provider {settings.dns} makes no record for {name}: {why}"
        return HostFailure(text, hint=f"if its token is wrong, give another one: {_again(name, settings)}")
    if why := _unreachable(settings, lines):
        return HostFailure(why, hint=_LOG)
    return HostFailure(f"no certificate for {name}: {_after(last, 'could not ')}", hint=_LOG)


def _answer(lines: Sequence[str]) -> tuple[str, str] | None:
    """Return the kind of the last error that the authority answered, and what it said."""
    for line in reversed(lines):
        _before, found, rest = line.partition(_ERROR)
        kind, _, said = rest.partition(" :: ")
        if found and kind != "badNonce":  # lego tells those too that it gets over
            return kind, said.partition(", url:")[0].strip() or kind
    return None


def _provider(lines: Sequence[str]) -> str:
    """Return what the DNS provider answered to the order to make a record, or "" if that is not why it failed."""
    return next((line.partition(_PRESENTING)[2] for line in reversed(lines) if _PRESENTING in line), "")


def _again(name: str, settings: AcmeSettings) -> str:
    """Return the command that gives a DNS provider's token anew, with all that was said before."""
    options = ["--email", settings.email, "--dns", settings.dns, "--from-file", "FILE"]
    if settings.server == STAGING:
        options.append("--staging")
    elif settings.server != LETS_ENCRYPT:
        options += ["--acme-server", settings.server]
    if settings.server_ca:
        options += ["--acme-server-ca", "FILE"]
    return shlex.join(["sudo", "flytectl", "domain", "set", name.removeprefix("*."), *options])


def _unreachable(settings: AcmeSettings, lines: Sequence[str]) -> str:
    """Return why the authority's server cannot be reached, or "" if lego does not say so."""
    server = settings.server.partition("://")[2].partition("/")[0]
    if not any(server in line and "acme: error" not in line and "dial" in line for line in lines):
        return ""
    last = next((line for line in reversed(lines) if line), "")
    why = _after(last, "dial ").partition('", err:(')[0]  # newer ones of lego print a structure of Go's around it
    return f"the authority {server} cannot be reached: {why}"


def _after(line: str, mark: str) -> str:
    """Return what follows a mark in a line, or all of it."""
    return line.partition(mark)[2] or line


def _variables(settings: AcmeSettings) -> str:
    return f"lego dnshelp -c {settings.dns} lists its variables: give them as NAME=VALUE lines of --from-file"


def _hints(name: str, settings: AcmeSettings) -> dict[str, str]:
    """Return what to do about each kind of error."""
    bare = name.removeprefix("*.")
    if settings.dns:
        dns = f"the token has to be allowed to change the records of {bare}; to give another: {_again(name, settings)}"
        return {"dns": dns, "unauthorized": dns, **_COMMON}
    return {
        "dns": f"make a DNS record of type A or AAAA for {bare} that leads to this machine",
        "connection": f"port 80 of {bare} has to reach this machine from the internet (firewall, router)",
        "unauthorized": f"another server answers at http://{bare}: correct its DNS record, or stop that server",
        "tls": f"another server answers at http://{bare}: correct its DNS record, or stop that server",
        **_COMMON,
    }


_COMMON = {
    "caa": "the CAA record of the domain names another authority: add this one to it",
    "rateLimited": "flyted tries again later; meanwhile the app answers with this machine's own certificate",
    "invalidContact": "give another address: sudo flytectl domain set DOMAIN --email ADDRESS",
    "unsupportedContact": "give another address: sudo flytectl domain set DOMAIN --email ADDRESS",
    "rejectedIdentifier": "this authority gives no certificate for such a name",
}
