"""``flytectl domain …``: serve apps at other base domains, for clients on other machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from flytectl.complete import complete_domain
from flytectl.confirm import yes_option
from flytectl.options import as_json, no_core_dump, out, say

if TYPE_CHECKING:
    from flyted.contract.answers.domains import DomainPreview, DomainStatus


@click.command(name="set")
@click.argument("domain", metavar="DOMAIN")
@click.option("--email", metavar="ADDRESS", help="Order certificates from Let's Encrypt, for an account with this.")
@click.option("--dns", metavar="PROVIDER", help="Prove the domain by DNS records: one certificate for all apps.")
@click.option(
    "--from-file", "dns_file", metavar="FILE", type=click.Path(readable=False),
    help="The token of the DNS provider, or NAME=VALUE lines.",
)  # fmt: skip
@click.option("--staging", is_flag=True, help="Order certificates that nobody trusts, to try it.")
@click.option("--acme-server", metavar="URL", help="Order from this ACME authority instead of Let's Encrypt.")
@click.option(
    "--acme-server-ca", metavar="FILE", type=click.Path(readable=False),
    help="The certificate by which that server is trusted.",
)  # fmt: skip
@click.option("--own-ca", is_flag=True, help="Have this machine sign the certificate.")
@click.option(
    "--api/--no-api", default=None, help="Serve flyted's API at flyted.DOMAIN, for flyte on other machines [no]."
)
@yes_option
@as_json
def set_(domain: str, *, own_ca: bool, api: bool | None, yes: bool, json_: bool, **acme: Any) -> int:
    """Serve all apps at APP.DOMAIN too.

    With --email, each app gets a certificate of Let's Encrypt that every client trusts. *.DOMAIN has to lead to this
    machine, and port 80 has to be reachable from the internet, unless --dns names the provider of the domain's DNS.

    With --own-ca, this machine signs: clients have to trust its authority once, flytectl domain get DOMAIN --pem. For
    a certificate of your own, use 'domain cert'.

    With --api alone, a domain keeps its certificate. To set up the other machine: flytectl config init
    --for-other-machine NAME.
    """
    name = _name(domain)
    given = sorted(option for option, value in acme.items() if value)
    if own_ca and given:
        raise click.UsageError("with --own-ca no certificate is ordered: the other options make no sense")
    if api is not None and not own_ca and not given:
        return _shown(_api(name, api=api, yes=yes), json_=json_)
    if not own_ca and not acme["email"]:
        raise click.UsageError("say where the certificate comes from: --email ADDRESS or --own-ca, or 'domain cert'")
    done = _serve(name, Wanted("own-ca") if own_ca else _ordered(**acme), yes=yes)
    if done is not None and api is not None:
        done = _api(name, api=api, yes=yes) or done
    return _shown(done, json_=json_)


def _ordered(
    *, email: str, dns: str | None, dns_file: str | None, staging: bool, acme_server: str | None,
    acme_server_ca: str | None,
) -> Wanted:  # fmt: skip
    from flytectl.values import read_file
    from flyted.contract.acme import LETS_ENCRYPT, STAGING

    if staging and acme_server:
        raise click.UsageError("--staging is Let's Encrypt's: it makes no sense with --acme-server")
    if dns_file and not dns:
        raise click.UsageError("--from-file is for --dns")
    if dns_file:
        no_core_dump()
    trusted = read_file(acme_server_ca, "--acme-server-ca") if acme_server_ca else b""
    acme = {
        "email": email, "server": acme_server or (STAGING if staging else LETS_ENCRYPT),
        "server_ca": trusted.decode("ascii", "replace"), "dns": dns or "",
    }  # fmt: skip
    return Wanted("acme", read_file(dns_file, "--from-file") if dns_file else b"", acme)


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
    return _shown(_serve(_name(domain), Wanted("file", pem), yes=yes), json_=json_)


@click.command()
@click.argument("domain", metavar="DOMAIN", shell_complete=complete_domain)
@as_json
def test(domain: str, *, json_: bool) -> int:
    """Check whether clients reach a domain.

    That is checked from this machine: whether the names lead here, whether this machine answers at them, and whether
    their certificates are good. Exit status 1 when something is broken.
    """
    from flytectl import reach
    from flytectl.commands.doctor import shown
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainStatus

    found = call(DomainStatus, "domain.get", {"domain": _name(domain)})
    status = shown(reach.run(found), json_=json_)
    if found.server and not json_:
        say(reach.OUTSIDE.format(reach.names_of(found)[0]))
    return status


@click.command()
@click.argument("domain", metavar="DOMAIN", shell_complete=complete_domain)
@as_json
def renew(domain: str, *, json_: bool) -> None:
    """Order the certificates that are missing.

    flyted repeats an order that failed by itself, after longer and longer waits. This does it at once, unless three
    orders for a name have failed within the last hour.
    """
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainStatus

    found = call(DomainStatus, "domain.renew", {"domain": _name(domain)})
    out(render.to_json(found) if json_ else tables.domain_text(found))


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
        if found.certificate == "acme" and lost:
            lost.append("its certificates and keys are deleted; the authority limits how often it gives new ones")
        if not may_delete(lost, f"Remove domain {name}?", f"sudo flytectl domain rm {name} --yes"):
            return DECLINED
    call(Done, "domain.remove", {"domain": name})
    out(render.to_json({"removed": name})) if json_ else say(f"domain {render.safe(name)} removed")
    return 0


def _name(text: str) -> str:
    """Return a domain as DNS has it: in lower case, other letters encoded. Raises :class:`InvalidInput`."""
    from flyted.contract.errors import InvalidInput
    from flyted.contract.names import base_domain

    if text.startswith("*."):
        raise InvalidInput(f"{text} names the hosts of apps", hint=f"give the domain alone: {text[2:]}")
    try:
        found = text.lower().rstrip(".").encode("idna").decode()
    except UnicodeError:
        found = text
    return base_domain(found)


@dataclass(frozen=True)
class Wanted:
    """The certificates that a domain is to have, as `domain.set` takes it. ``secret``: what follows the request."""

    certificate: str
    secret: bytes = field(default=b"", repr=False)
    acme: dict[str, str] = field(default_factory=dict)


def _serve(domain: str, wanted: Wanted, *, yes: bool) -> DomainStatus | None:
    """Serve apps at a domain; return it, or ``None`` after a no."""
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainPreview, DomainStatus

    preview = call(DomainPreview, "domain.preview", {"domain": domain})
    if not yes and not _agreed(domain, preview):
        return None
    args = {"domain": domain, "certificate": wanted.certificate, "acme": wanted.acme}
    return call(DomainStatus, "domain.set", args, bulk=wanted.secret)


def _api(domain: str, *, api: bool, yes: bool) -> DomainStatus | None:
    """Serve flyted's API at a domain, or stop that; return the domain, or ``None`` after a no."""
    from flytectl.confirm import confirmed
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainStatus

    found = call(DomainStatus, "domain.get", {"domain": domain})
    if api and not found.api and not yes:
        told = [
            f"Every machine that reaches this one will reach flyted's API at flyted.{domain}.",
            "With a token of a member of group flyted one can deploy and delete apps, read logs and set secrets",
            "there; without one, nothing.",
        ]
        if not confirmed(
            told, "Serve the API?", "to serve the API on the network", "add --yes", "nothing was changed"
        ):
            return None
    return call(DomainStatus, "domain.api", {"domain": domain, "api": api})


def _shown(done: DomainStatus | None, *, json_: bool) -> int:
    """Print what there is of a domain now, and what is to be done next; return the exit status."""
    from flytectl import render
    from flytectl.confirm import DECLINED

    if done is None:
        return DECLINED
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
    where = "at your DNS provider" if done.server else "in the DNS of your network"
    lines = [f"point *.{done.domain} to this machine {where}"]
    if done.server and not done.dns and done.http_port != 80:
        lines.append(
            f"the authority asks at port 80, and the ingress has port {done.http_port}: have your router forward the "
            "one to the other, or free port 80 (ss -ltnp) and then: sudo systemctl restart flyted"
        )
    if done.server:
        lines.append(f"certificates are ordered now; to see how far that is: flytectl domain get {done.domain}")
    if done.api:
        lines += [
            f"flyted's API is at https://{done.api}",
            "to set up flyte on another machine: flytectl config init --for-other-machine NAME",
        ]
    if done.authority:
        lines.append(f"clients have to trust this machine's authority: flytectl domain get {done.domain} --pem")
    return lines
