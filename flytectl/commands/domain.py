"""``flytectl domain …``: serve apps at other base domains, for clients on other machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flytectl.complete import complete_domain
from flytectl.confirm import yes_option
from flytectl.options import as_json, no_core_dump, out, say

if TYPE_CHECKING:
    from flyted.contract.answers.domains import DomainPreview, DomainStatus


@click.command(name="set")
@click.argument("domain", metavar="DOMAIN")
@click.option("--own-ca", is_flag=True, required=True, help="Have this machine sign the certificate.")
@yes_option
@as_json
def set_(domain: str, *, own_ca: bool, yes: bool, json_: bool) -> int:  # noqa: ARG001  the only kind so far
    """Serve all apps at APP.DOMAIN too.

    That is for other machines, which have to trust this one's authority once: flytectl domain get DOMAIN --pem. For a
    certificate of your own, use 'domain cert'.
    """
    return _serve(_name(domain), "own-ca", b"", yes=yes, json_=json_)


@click.command()
@click.argument("domain", metavar="DOMAIN")
@click.option(
    "--cert", "cert_file", required=True, metavar="FILE", type=click.Path(readable=False),
    help="The certificate and those that sign it, as PEM.",
)  # fmt: skip
@click.option(
    "--key", "key_file", required=True, metavar="FILE", type=click.Path(readable=False),
    help="Its private key, as PEM.",
)  # fmt: skip
@yes_option
@as_json
def cert(domain: str, cert_file: str, key_file: str, *, yes: bool, json_: bool) -> int:
    """Serve apps with your own certificate.

    All apps are served at APP.DOMAIN too. The certificate has to be good for *.DOMAIN. It replaces the one of a domain
    that is served already, and no connection is closed. The key is encrypted at rest.
    """
    from flytectl.values import read_file

    no_core_dump()
    pem = read_file(cert_file, "--cert") + b"\n" + read_file(key_file, "--key")
    return _serve(_name(domain), "file", pem, yes=yes, json_=json_)


@click.command()
@as_json
def ls(*, json_: bool) -> None:
    """List the domains besides the machine's own."""
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainList

    domains = call(DomainList, "domain.list").domains
    if json_:
        out(render.to_json({"domains": domains}))
        return
    if domains:
        out(tables.domains_table(domains))
    else:
        say("no other domains; to add one: sudo flytectl domain set DOMAIN --own-ca")


@click.command()
@click.argument("domain", metavar="DOMAIN", shell_complete=complete_domain)
@click.option("--pem", is_flag=True, help="Print the certificate of the authority that clients have to trust.")
@as_json
def get(domain: str, *, pem: bool, json_: bool) -> None:
    """Show a domain.

    Print its certificate, until when that is good, and what is wrong with it.
    """
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainStatus
    from flyted.contract.errors import InvalidInput

    found = call(DomainStatus, "domain.get", {"domain": _name(domain)})
    if pem and not found.authority_pem:
        raise InvalidInput(f"the certificate of {found.domain} was not signed by this machine, but by {found.issuer}")
    if json_:
        out(render.to_json(found))
    elif pem:
        out(found.authority_pem.strip())
    else:
        out(tables.domain_text(found))


@click.command()
@click.argument("domain", metavar="DOMAIN", shell_complete=complete_domain)
@yes_option
@as_json
def rm(domain: str, *, yes: bool, json_: bool) -> int:
    """Remove a domain, and delete its key."""
    from flytectl import render
    from flytectl.confirm import DECLINED, can_ask, may_delete
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainStatus
    from flyted.contract.answers.machine import Done

    name = _name(domain)
    found = call(DomainStatus, "domain.get", {"domain": name})
    if not yes:
        lost = [f"https://APP.{name} ends for all apps; their other URLs stay"] if can_ask() else []
        if found.certificate == "file" and lost:
            lost.append("the certificate and its key are deleted; your own files stay")
        if not may_delete(lost, f"Remove domain {name}?", f"sudo flytectl domain rm {name} --yes"):
            return DECLINED
    call(Done, "domain.remove", {"domain": name})
    out(render.to_json({"removed": name})) if json_ else say(f"domain {render.safe(name)} removed")
    return 0


def _name(text: str) -> str:
    """Return a domain as DNS has it: in lower case, other letters encoded. Raises :class:`InvalidInput`."""
    from flyted.contract.names import base_domain

    try:
        found = text.lower().rstrip(".").encode("idna").decode()
    except UnicodeError:
        found = text
    return base_domain(found)


def _serve(domain: str, certificate: str, pem: bytes, *, yes: bool, json_: bool) -> int:
    from flytectl import render
    from flytectl.confirm import DECLINED
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainPreview, DomainStatus

    preview = call(DomainPreview, "domain.preview", {"domain": domain})
    if not yes and not _agreed(domain, preview):
        return DECLINED
    done = call(DomainStatus, "domain.set", {"domain": domain, "certificate": certificate}, bulk=pem)
    if json_:
        out(render.to_json(done))
        return 0
    say(f"all apps are served at https://APP.{render.safe(done.domain)} now")
    for line in _next(done):
        say(line)
    return 0


def _agreed(domain: str, preview: DomainPreview) -> bool:
    """Ask, if more is reachable with the domain than now. Raises as :func:`confirmed`."""
    from flytectl.confirm import confirmed
    from flytectl.render import counted, safe

    new = [address for address in preview.would_listen if address not in preview.listens]
    if not new:
        return True
    others = preview.apps - len(preview.open_apps)
    told = [
        f"The ingress listens on {', '.join(preview.listens)} now; it will listen on {', '.join(new)}.",
        "Every machine that reaches this one by its network will reach",
        *(f"  without a token: {safe(app)} (requires_auth=False)" for app in preview.open_apps),
        f"  with a token: {counted(others, 'other app' if preview.open_apps else 'app')}",
        "and, in the same way, apps that are deployed later.",
    ]
    what = f"to listen on {', '.join(new)}, so that other machines reach the apps,"
    return confirmed(told, f"Serve all apps at {domain}?", what, "add --yes", "nothing was changed")


def _next(done: DomainStatus) -> list[str]:
    lines = [f"point *.{done.domain} to this machine in the DNS of your network"]
    if done.authority:
        lines.append(f"clients have to trust this machine's authority: flytectl domain get {done.domain} --pem")
    return lines
