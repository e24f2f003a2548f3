"""What ``flytectl doctor`` finds out from the user's side, before and beside the daemon's own checks.

A check is ``{"name", "ok": true | false | null, "detail", "hint"}``; null is a warning.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
from collections.abc import Iterator
from typing import Any

from flytectl import trust
from flytectl.daemon import call
from flyted.contract.client import check_version
from flyted.contract.errors import FlytedError
from flyted.contract.names import BASE_DOMAIN
from flyted.contract.version import VERSION

GROUP = "flyted"

Check = dict[str, Any]


def run() -> list[Check]:
    """All checks, the daemon's included when it answers."""
    try:
        authority = call("ca.show")
        base = _base_domain(authority["names"])
    except FlytedError:
        authority, base = {}, BASE_DOMAIN
    found = [*_group(), *_names(base), *_daemon()]
    return [*found, _trusted(authority["pem"])] if authority else found


def _base_domain(names: list[str]) -> str:
    """The domain that the apps are below: what the certificate has a wildcard for."""
    return next((name[2:] for name in names if name.startswith("*.")), BASE_DOMAIN)


def check(name: str, detail: str, hint: str = "", *, ok: bool | None) -> Check:
    """One finding."""
    return {"name": name, "ok": ok, "detail": detail, "hint": hint}


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
    if group.gr_gid in os.getgroups():
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
        found = {info[4][0] for info in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)}
    except OSError as error:
        hint = "sudo apt install libnss-myhostname; curl and browsers resolve *.localhost by themselves"
        yield check("names", f"{host} does not resolve: {error.strerror or error}", hint, ok=None)
        return
    local = all(address in ("::1", "127.0.0.1") for address in found)
    detail = f"{host} is {', '.join(sorted(str(address) for address in found))}"
    yield check(
        "names", detail, "" if local else f"*.{BASE_DOMAIN} must lead to this machine: see /etc/hosts", ok=local
    )


def _daemon() -> Iterator[Check]:
    try:
        yield _version(call("version"))
        yield from call("doctor")["checks"]
    except FlytedError as error:
        yield check("daemon", error.message, error.hint, ok=False)


def _version(answer: dict[str, Any]) -> Check:
    try:
        check_version(answer, VERSION)
    except FlytedError as error:
        return check("daemon", error.message, error.hint, ok=False)
    return check("daemon", f"flyted {VERSION} answers", ok=True)


def _trusted(pem: str) -> Check:
    if trust.in_bundle(pem):
        return check("trust", "the system trusts the apps' certificates", ok=True)
    return check("trust", "the system does not trust the apps' certificates", "sudo flytectl ca install", ok=None)
