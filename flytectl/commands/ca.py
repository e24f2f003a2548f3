"""``flytectl ca …``: let this machine trust the certificates of the apps. An explicit step that can be undone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from flytectl.complete import complete_domain
from flytectl.options import as_json, out, say

if TYPE_CHECKING:
    import pwd
    from collections.abc import Callable

    from flytectl.browsers import Found


@click.command()
@click.argument("domain", required=False, metavar="[DOMAIN]", shell_complete=complete_domain)
@click.option("--pem", is_flag=True, help="Print the certificate itself.")
@click.option("--qr", is_flag=True, help="Print the address of the page for phones as a QR code.")
@click.option("--mobileconfig", is_flag=True, help="Print the profile for an iPhone, iPad or Mac.")
@as_json
def show(domain: str | None, *, pem: bool, qr: bool, mobileconfig: bool, json_: bool) -> None:
    """Show the certificate authority (CA).

    Print its fingerprint, the names that it may sign for and where it is installed. DOMAIN has one of its own, for
    other machines: 'flytectl domain set DOMAIN --own-ca'.
    """
    from flytectl import render, trust
    from flytectl.daemon import call
    from flyted.contract.answers.machine import Authority

    if pem + qr + mobileconfig + json_ > 1:
        raise click.UsageError("choose one of --pem, --qr, --mobileconfig and --json")
    if domain:
        _of_domain(domain, pem=pem, qr=qr, mobileconfig=mobileconfig, json_=json_)
        return
    if qr or mobileconfig:
        raise click.UsageError(
            "name the DOMAIN that other machines use; without it, the authority is for this one alone"
        )
    found = call(Authority, "ca.show")
    installed = str(trust.ANCHOR) if trust.in_bundle(found.pem) else None
    fingerprint = trust.fingerprint(found.pem)
    if json_:
        answer = {"fingerprint": fingerprint, "names": found.names, "installed": installed, "pem": found.pem}
        out(render.to_json(answer))
        return
    if pem:
        out(found.pem.strip())
        return
    out(f"SHA-256    {fingerprint}")
    out(f"Names      {', '.join(render.safe(name) for name in found.names)}")
    out(f"Installed  {installed or 'no (sudo flytectl ca install)'}")


def _of_domain(domain: str, *, pem: bool, qr: bool, mobileconfig: bool, json_: bool) -> None:
    """Show the authority of a base domain. Raise :class:`InvalidInput` if this machine does not sign for it."""
    from flytectl import qr_code, render
    from flytectl.daemon import call
    from flytectl.domain_name import domain_name
    from flyted.contract import authority
    from flyted.contract.answers.domains import DomainStatus
    from flyted.contract.errors import InvalidInput
    from flyted.contract.names import at_port

    found = call(DomainStatus, "domain.get", {"domain": domain_name(domain)})
    if found.certificate == "own-ca" and not found.authority_pem:
        raise InvalidInput(f"{found.domain}: {found.problem}", hint=found.hint)
    if not found.authority_pem:
        raise InvalidInput(
            f"this machine does not sign for {found.domain}: its certificate is from {found.issuer or 'elsewhere'}",
            hint=f"flytectl domain get {found.domain}",
        )
    page = f"http://{at_port(found.own_name, found.http_port, 80)}"
    if json_:
        out(render.to_json(
            {"fingerprint": found.authority, "names": [found.domain], "page": page, "pem": found.authority_pem}
        ))  # fmt: skip
    elif pem:
        out(found.authority_pem.strip())
    elif mobileconfig:
        out(authority.profile(found.domain, authority.der(found.authority_pem)).decode().strip())
    else:
        if qr:
            out(qr_code.text(page))
        out(f"SHA-256  {found.authority}")
        out(f"Names    {found.domain} and names below it")
        out(f"Page     {page}")


@click.command()
@as_json
def install(*, json_: bool) -> None:
    """Trust the CA, in your browsers too (root)."""
    from flytectl import render, trust
    from flytectl.daemon import call
    from flyted.contract.answers.machine import Authority

    _require_root("install")
    found = call(Authority, "ca.show")
    trust.install_system(found.pem)
    user = trust.calling_user(os.environ)
    trusted = [str(trust.ANCHOR)] + ([] if user is None else _browsers(user, found.pem))
    fingerprint = trust.fingerprint(found.pem)
    if json_:
        out(render.to_json({"fingerprint": fingerprint, "names": found.names, "trusted": trusted}))
    else:
        for place in trusted:
            out(f"trusted: {render.safe(place)}")
        out(f"SHA-256  {fingerprint}")
        out(f"It can sign for {', '.join(render.safe(name) for name in found.names)} and nothing else.")
    say("note: Python programs with a CA bundle of their own (certifi: requests, httpx) need")
    say(f"      export SSL_CERT_FILE={trust.BUNDLE} REQUESTS_CA_BUNDLE={trust.BUNDLE}")


@click.command()
@as_json
def uninstall(*, json_: bool) -> int:
    """Undo 'ca install' (root only). Works without the daemon."""
    from flytectl import render, trust
    from flytectl.each import each

    def forget(step: Callable[[], list[str]]) -> list[str]:
        removed = step()
        for place in () if json_ else removed:
            out(f"removed: {render.safe(place)}")
        return removed

    _require_root("uninstall")
    user = trust.calling_user(os.environ)
    steps = [_forget_in_system, *([] if user is None else _in_browsers(user))]
    return each(steps, forget, "removed", as_json=json_)


def _require_root(command: str) -> None:
    from flyted.contract.errors import PermissionRefused

    if os.geteuid() != 0:
        raise PermissionRefused(
            "only root can change the system's trusted certificates", hint=f"sudo flytectl ca {command}"
        )


def _browsers(user: pwd.struct_passwd, pem: str) -> list[str]:
    """Add the CA to the user's browsers; return the databases that trust it now.

    For browsers where that is not possible, say what to do.
    """
    from pathlib import Path

    from flytectl import browsers, render
    from flyted.contract.errors import HostFailure

    home = Path(user.pw_dir)
    have = browsers.stores(home)
    make, start = browsers.unmade(home, have)
    if not (have or make or start):
        say(f"note: found no browser of {user.pw_name}; for a browser on another computer: flytectl ca show --pem")
        return []
    if not browsers.have_certutil():
        names = ", ".join(dict.fromkeys([*(store.browser for store in (*have, *make)), *start]))
        say(f"note: {user.pw_name}'s browsers ({names}) have their own lists of trusted certificates:")
        say(f"      sudo apt install {browsers.CERTUTIL_PACKAGE} && sudo flytectl ca install")
        return []
    trusted = []
    for store in (*have, *make):
        try:
            browsers.trust_in(store, user, pem)
            trusted.append(f"{store.folder} ({store.browser})")
        except HostFailure as error:
            say(render.safe(f"note: {error.message} ({store.browser})"))
    for name in start:
        say(f"note: {name} has no profile yet: start it once, then run: sudo flytectl ca install")
    if have:
        say("note: restart open browsers")
    return trusted


def _forget_in_system() -> list[str]:
    from flytectl import trust

    if trust.uninstall_system():
        return [str(trust.ANCHOR)]
    say("the system did not trust it")
    return []


def _in_browsers(user: pwd.struct_passwd) -> list[Callable[[], list[str]]]:
    """Return a function per database of the user's browsers: it removes the CA, and returns where it was."""
    from functools import partial
    from pathlib import Path

    from flytectl import browsers

    have = browsers.stores(Path(user.pw_dir))
    if have and not browsers.have_certutil():
        say(f"note: {user.pw_name}'s browsers may still trust it:")
        say(f"      sudo apt install {browsers.CERTUTIL_PACKAGE} && sudo flytectl ca uninstall")
        return []
    return [partial(_forget_in, store, user) for store in have]


def _forget_in(store: Found, user: pwd.struct_passwd) -> list[str]:
    from flytectl import browsers

    return [f"{store.folder} ({store.browser})"] if browsers.distrust_in(store.folder, user) else []
