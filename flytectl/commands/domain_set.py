"""``flytectl domain set`` and ``cert``: serve apps at another base domain, with a certificate from somewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from flytectl.confirm import DECLINED, yes_option
from flytectl.domain_name import domain_name
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
@click.option("--redirect-to", metavar="OTHER", help="Send clients of APP.DOMAIN to APP.OTHER.")
@click.option("--no-redirect", is_flag=True, help="Serve the apps there again.")
@yes_option
@as_json
def set_(
    domain: str, *, own_ca: bool, api: bool | None, redirect_to: str | None, no_redirect: bool, yes: bool,
    json_: bool, **acme: Any,
) -> int:  # fmt: skip
    """Serve all apps at APP.DOMAIN too.

    With --email, each app gets a certificate of Let's Encrypt that every client trusts. *.DOMAIN has to lead to this
    machine, and port 80 has to be reachable from the internet, unless --dns names the provider of the domain's DNS.

    With --own-ca, this machine signs: clients have to trust its authority once, flytectl ca show DOMAIN. For a
    certificate of your own, use 'domain cert'.

    With --redirect-to, clients of APP.DOMAIN are sent to APP.OTHER. Apps must be served at both domains already. The
    certificates of DOMAIN are kept and renewed until 'domain rm'.

    With --api alone, a domain keeps its certificate. To set up the other machine: flytectl config init
    --for-other-machine NAME.
    """
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainStatus

    name = domain_name(domain)
    given = sorted(option for option, value in acme.items() if value)
    if own_ca and given:
        raise click.UsageError("with --own-ca no certificate is ordered: the other options make no sense")
    if redirect_to or no_redirect:
        if own_ca or given or api is not None or (redirect_to and no_redirect):
            raise click.UsageError("--redirect-to and --no-redirect go with no other option")
        to = domain_name(redirect_to) if redirect_to else ""
        if to and not yes and not _redirect_agreed(name, to):
            return DECLINED
        return _redirected(call(DomainStatus, "domain.redirect", {"domain": name, "to": to}), json_=json_)
    alone = api is not None and not own_ca and not given
    if given and not acme["email"]:
        acme["email"] = _known_address(name)
    if not alone and not own_ca and not acme["email"]:
        raise click.UsageError("say where the certificate comes from: --email ADDRESS or --own-ca, or 'domain cert'")
    if api and not yes and not _api_agreed(name):
        return DECLINED
    change = {"domain": name, "api": api}
    if alone:
        return _shown(call(DomainStatus, "domain.api", change), json_=json_, only_api=True)
    done = _serve(name, Wanted("own-ca") if own_ca else _ordered(**acme), yes=yes)
    if done is None:
        return DECLINED
    return _shown(done if api is None else call(DomainStatus, "domain.api", change), json_=json_)


def _known_address(domain: str) -> str:
    """Return the address of the account that orders for a domain, else for another one; "" if none does."""
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainList

    domains = sorted(call(DomainList, "domain.list").domains, key=lambda each: each.domain != domain)
    return next((each.email for each in domains if each.email), "")


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
    done = _serve(domain_name(domain), Wanted("file", pem), yes=yes)
    return DECLINED if done is None else _shown(done, json_=json_)


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


def _api_agreed(domain: str) -> bool:
    """Ask whether the API may be reached, unless it is. Raises as :func:`confirmed`."""
    from flytectl.confirm import confirmed
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainList

    if any(each.domain == domain and each.api for each in call(DomainList, "domain.list").domains):
        return True
    told = [
        f"Every machine that reaches this one will reach flyted's API at flyted.{domain}.",
        "With a token of a member of group flyted one can deploy and delete apps, read logs and set secrets there;",
        "without one, nothing.",
    ]
    return confirmed(told, "Serve the API?", "to serve the API on the network", "add --yes", "nothing was changed")


def _shown(done: DomainStatus, *, json_: bool, only_api: bool = False) -> int:
    """Print what there is of a domain now, and what is to be done next."""
    from flytectl import render

    if json_:
        out(render.to_json(done))
        return 0
    if done.redirect and not only_api:
        say(_redirect(done))
    elif not only_api:
        say(f"all apps are served at https://APP.{render.safe(done.domain)}{done.port} now")
    elif not done.api:
        say(f"flyted's API is served at {done.domain} no more")
    for line in (*([] if only_api else _next(done)), *_next_of_api(done)):
        say(line)
    if done.server and not only_api:
        _looked_at(done)
    return 0


def _looked_at(done: DomainStatus) -> None:
    """Say what an authority, or a client, would not find, as far as this machine sees it."""
    from flytectl import reach
    from flytectl.render import safe

    for check in reach.at_first(done):
        say(f"{safe(check.name)} {safe(check.detail)}: {safe(check.hint)}")
    say(f"to look again: flytectl domain test {safe(done.domain)}")


def _redirected(done: DomainStatus, *, json_: bool) -> int:
    """Print where clients of a domain go now."""
    from flytectl import render

    if json_:
        out(render.to_json(done))
        return 0
    say(_redirect(done))
    return 0


def _redirect(done: DomainStatus) -> str:
    """Return in one line whether clients of a domain are sent to another one."""
    from flytectl.render import safe

    to = f"redirects to https://APP.{safe(done.redirect)}{done.port}" if done.redirect else "is served"
    return f"https://APP.{safe(done.domain)}{done.port} {to} now"


def _redirect_agreed(domain: str, to: str) -> bool:
    """Ask, if clients of a domain may not trust the other one. Raises as :func:`confirmed`."""
    from flytectl.confirm import confirmed
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainList

    found = {each.domain: each for each in call(DomainList, "domain.list").domains}
    if domain not in found or to not in found:
        return True  # flyted says what is wrong
    told = []
    if found[to].state != "ok":
        told.append(f"The certificates of {to} are not all good: {found[to].state}")
    if found[to].authority and not found[domain].authority:
        told.append(f"This machine signs for {to}: clients of {domain} do not trust that by themselves.")
    again = f"sudo flytectl domain set {domain} --redirect-to {to} --yes"
    return not told or confirmed(told, f"Redirect {domain} to {to}?", "this redirect", again, "nothing was changed")


def _next_of_api(done: DomainStatus) -> list[str]:
    if not done.api:
        return []
    return [
        f"flyted's API is at https://{done.api}{done.port}",
        "to set up flyte on another machine: flytectl config init --for-other-machine NAME | ssh NAME sh",
    ]


def _agreed(domain: str, preview: DomainPreview) -> bool:
    """Ask, if more is reachable with the domain than now. Raises as :func:`confirmed`."""
    from flytectl.confirm import confirmed
    from flytectl.render import counted, safe

    new = [address for address in preview.would_listen if address not in preview.listens]
    urls = _urls(preview)
    if not new:
        for line in urls:
            say(line)
        return True
    others = preview.apps - len(preview.open_apps)
    told = [
        f"The ingress listens on {', '.join(preview.listens)} now; it will listen on {', '.join(new)}.",
        "Every machine that reaches this one by its network will reach",
        *(f"  without a token: {safe(app)} (requires_auth=False)" for app in preview.open_apps),
        f"  with a token: {counted(others, 'other app' if preview.open_apps else 'app')}",
        "and, in the same way, apps that are deployed later.",
        *urls,
    ]
    what = f"to listen on {', '.join(new)}, so that other machines reach the apps,"
    return confirmed(told, f"Serve all apps at {domain}?", what, "add --yes", "nothing was changed")


def _urls(preview: DomainPreview) -> list[str]:
    """Return what is to be said of the URLs of apps that are there, if these change."""
    from flytectl.render import counted, safe

    if preview.shown == preview.would_show or not preview.apps:
        return []
    which, old = counted(preview.apps, "app"), safe(preview.shown)
    return [f"The URLs of {which} will be https://APP.{safe(preview.would_show)}; those at {old} keep working."]


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
    if done.authority:
        lines.append(f"clients have to trust this machine's authority: flytectl ca show {done.domain} --qr")
    return lines
