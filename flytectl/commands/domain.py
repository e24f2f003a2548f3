"""``flytectl domain …``: show, check and remove base domains, at which apps are served to other machines."""

from __future__ import annotations

import click

from flytectl.complete import complete_domain
from flytectl.confirm import yes_option
from flytectl.domain_name import domain_name
from flytectl.options import as_json, out, say


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

    found = call(DomainStatus, "domain.get", {"domain": domain_name(domain)})
    status = shown(reach.run(found), json_=json_)
    if found.server and not json_:
        say(reach.OUTSIDE.format(next(name for name in reach.names_of(found) if name != found.api)))
    return status


@click.command()
@click.argument("domain", metavar="DOMAIN", shell_complete=complete_domain)
@as_json
def renew(domain: str, *, json_: bool) -> None:
    """Order the certificates that are missing.

    flyted repeats an order or a revocation that failed by itself, after longer and longer waits. This does it at once,
    unless three for a name have failed within the last hour.
    """
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainStatus

    found = call(DomainStatus, "domain.renew", {"domain": domain_name(domain)})
    out(render.to_json(found) if json_ else tables.domain_text(found))


@click.command()
@click.argument("domain", metavar="DOMAIN", shell_complete=complete_domain)
@click.argument("name", metavar="[NAME]", required=False, default="")
@yes_option
@as_json
def revoke(domain: str, name: str, *, yes: bool, json_: bool) -> int:
    """Revoke certificates whose keys have leaked.

    NAME is a host name, such as hello.DOMAIN, or '*.DOMAIN' if names are proved by DNS; without it, all names of the
    domain are meant. Certificates with new keys are ordered. When the ingress has those, the authority revokes the
    old ones, also those that were renewed but have not ended.
    """
    from flytectl import render, tables
    from flytectl.confirm import DECLINED, confirmed
    from flytectl.daemon import call
    from flytectl.domain_name import host_name
    from flyted.contract.answers.domains import DomainStatus

    base, host = domain_name(domain), host_name(name)
    if not yes:
        told = ["Clients stop trusting the old certificates. The authority limits how often it gives new ones."]
        which = f"certificates of {render.safe(host)}" if host else f"all certificates of {base}"
        again = f"sudo flytectl domain revoke {base} {render.safe(host)}".rstrip() + " --yes"
        if not confirmed(told, f"Revoke {which}?", "a revocation", again, "nothing was revoked"):
            return DECLINED
    found = call(DomainStatus, "domain.revoke", {"domain": base, "name": host})
    out(render.to_json(found) if json_ else tables.domain_text(found))
    return 0


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
@as_json
def get(domain: str, *, json_: bool) -> None:
    """Show a domain.

    Print its certificate, until when that is good, and what is wrong with it.
    """
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.domains import DomainStatus

    found = call(DomainStatus, "domain.get", {"domain": domain_name(domain)})
    out(render.to_json(found) if json_ else tables.domain_text(found))


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

    name = domain_name(domain)
    found = call(DomainStatus, "domain.get", {"domain": name})
    if not yes:
        lost = [f"https://APP.{name} ends for all apps; their other URLs stay"] if can_ask() else []
        if found.api and lost:
            lost.append(f"flyted's API ends at https://{found.api}, for all machines that use it")
        if found.certificate == "file" and lost:
            lost.append("the certificate and its key are deleted; your own files stay")
        if found.certificate == "acme" and lost:
            lost.append("its certificates and keys are deleted; the authority limits how often it gives new ones")
            lost.append(f"to have them revoked, if keys have leaked, first run: sudo flytectl domain revoke {name}")
        if not may_delete(lost, f"Remove domain {name}?", f"sudo flytectl domain rm {name} --yes"):
            return DECLINED
    call(Done, "domain.remove", {"domain": name})
    out(render.to_json({"removed": name})) if json_ else say(f"domain {render.safe(name)} removed")
    return 0
