"""Runs the checks of ``flytectl doctor``: those of the user's side, and the daemon's own."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from flytectl import browsers, trust
from flytectl.addresses import is_here
from flytectl.daemon import call
from flyted.contract.answers.machine import Authority, Check, Findings, Versions
from flyted.contract.client import check_version
from flyted.contract.errors import FlytedError
from flyted.contract.names import BASE_DOMAIN
from flyted.contract.version import VERSION

GROUP = "flyted"


def run() -> list[Check]:
    """Run all checks, including the daemon's if it answers; return their results."""
    try:
        version, authority = call(Versions, "version").version, call(Authority, "ca.show")
    except FlytedError as error:
        return [*_group(), check("daemon", error.message, error.hint, ok=False)]
    return [
        *_group(),
        *_names(_base_domain(authority.names)),
        *_daemon(version),
        _trusted(authority.pem),
        *_browsers(authority.pem),
    ]


def _base_domain(names: Sequence[str]) -> str:
    """Return the domain of the apps: the one for which the certificate has a wildcard."""
    return next((name[2:] for name in names if name.startswith("*.")), BASE_DOMAIN)


def check(name: str, detail: str, hint: str = "", *, ok: bool | None) -> Check:
    """Return the result of one check."""
    return Check(name, ok, detail, hint)


def _group() -> Iterator[Check]:
    if os.geteuid() == 0:
        yield check("group", "you are root", ok=True)
        return
    user = pwd.getpwuid(os.getuid()).pw_name
    try:
        group = grp.getgrnam(GROUP)
    except KeyError:
        yield check("group", f"there is no group '{GROUP}'", "install the package flyted", ok=False)
        return
    if group.gr_gid in {os.getegid(), *os.getgroups()}:  # newgrp(1) makes it the effective group
        yield check("group", f"{user} is in group '{GROUP}'", ok=True)
    elif user in group.gr_mem:
        hint = f"log out and in again, or: newgrp {GROUP}"
        yield check("group", f"{user} was added to group '{GROUP}' after this login", hint, ok=False)
    else:
        hint = f"sudo adduser {user} {GROUP}, then log in again"
        yield check("group", f"{user} is not in group '{GROUP}'", hint, ok=False)


def _names(base: str) -> Iterator[Check]:
    host = f"doctor.{base}"
    try:
        found = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)})
    except OSError as error:
        yield check("names", f"{host} does not resolve: {error.strerror or error}", names_hint(base), ok=None)
        return
    elsewhere = [address for address in found if not is_here(address)]
    detail = f"{host} is {', '.join(found)}" + (f": {', '.join(elsewhere)} is not this machine" if elsewhere else "")
    yield check("names", detail, names_hint(base), ok=not elsewhere)


def names_hint(base: str) -> str:
    """Return a hint on how to make names below the base domain resolve to this machine."""
    if base == "localhost" or base.endswith(".localhost"):
        return "sudo apt install libnss-myhostname; curl and browsers do not need it"
    return (
        f"point *.{base} to an address of this machine in the DNS of your router, Pi-hole or dnsmasq; "
        f"or name each app in /etc/hosts: ADDRESS APP.{base}"
    )


def _daemon(version: str) -> Iterator[Check]:
    yield _version(version)
    try:
        yield from call(Findings, "doctor").checks
    except FlytedError as error:
        yield check("daemon", error.message, error.hint, ok=False)


def _version(daemon: str) -> Check:
    try:
        check_version(daemon, VERSION)
    except FlytedError as error:
        return check("daemon", error.message, error.hint, ok=False)
    return check("daemon", f"flyted {VERSION} answers", ok=True)


def _trusted(pem: str) -> Check:
    if trust.in_bundle(pem):
        return check("trust", "the system trusts the apps' certificates", ok=True)
    return check("trust", "the system does not trust the apps' certificates", "sudo flytectl ca install", ok=None)


def _browsers(pem: str) -> Iterator[Check]:
    """Check whether the calling user's browsers trust the CA, unless that is root, who has none."""
    if os.geteuid() == 0 or not browsers.have_certutil():
        return
    have = browsers.stores(Path.home())
    without = [store for store in have if not browsers.trusted_in(store.folder, pem)]
    for store in without:
        detail = f"{store.browser} does not trust the apps' certificates ({store.folder})"
        yield check("browsers", detail, "sudo flytectl ca install", ok=None)
    if have and not without:
        names = ", ".join(dict.fromkeys(store.browser for store in have))
        yield check("browsers", f"{names} trusts the apps' certificates", ok=True)
