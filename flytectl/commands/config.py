"""``flytectl config …``: let Flyte's own command and SDK talk to this machine."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click

from flytectl.options import app_scope, no_core_dump, out, period, say


@click.command()
@click.argument("file", required=False, type=click.Path(allow_dash=True))
@click.option("--force", is_flag=True, help="Replace an existing file; for another machine, its token too.")
@click.option(
    "--for-other-machine", "token_name", metavar="NAME",
    help="Write a script that sets up another machine, with a token of this name.",
)  # fmt: skip
@click.option("--at", default="", metavar="HOST", help="For another machine: the DOMAIN or DOMAIN:PORT to use.")
@click.option(
    "--expires",
    default="30d",
    callback=period,
    metavar="PERIOD",
    help="For another machine: the token's lifetime [30d].",
)
@app_scope
def init(
    file: str | None, project: str, domain: str, *, force: bool, token_name: str | None, at: str, expires: int
) -> None:
    """Write the configuration of 'flyte'.

    With it, flyte and its SDK talk to this machine.

    Write to FILE, by default ~/.flyte/config.yaml; to standard output if FILE is '-', or without FILE if standard
    output is not a terminal: flytectl config init > config.yaml

    With --for-other-machine, write a shell script that sets up another machine. It contains a token of yours: flytectl
    config init --for-other-machine laptop | ssh laptop sh
    """
    from flytectl import flyte_config
    from flytectl.daemon import call
    from flyted.contract.answers.machine import GatewayPlace

    if token_name is not None:
        _for_other_machine(file, token_name, at, (project, domain), expires, force=force)
        return
    if at:
        raise click.UsageError("--at is for --for-other-machine")
    text = flyte_config.render(call(GatewayPlace, "gateway.show"), project, domain)
    if file == "-" or (file is None and not sys.stdout.isatty()):
        sys.stdout.write(text)
    else:
        path = Path(file) if file else Path.home() / flyte_config.FILE
        flyte_config.write(path, text, force=force)
        out(f"wrote {path}")
    say("note: flyte looks for ./config.yaml first, for ~/.flyte/config.yaml last")
    _trust()


def _for_other_machine(
    file: str | None, name: str, at: str, scope: tuple[str, str], expires: int, *, force: bool
) -> None:
    """Create a token, and write the script with it; if that fails, the token is revoked."""
    import pwd

    from flytectl import flyte_config, other_machine
    from flytectl.daemon import call
    from flytectl.times import for_people
    from flyted.contract.answers.domains import DomainList
    from flyted.contract.answers.tokens import Created, TokenList
    from flyted.contract.errors import FlytedError
    from flyted.contract.names import AppKey

    no_core_dump()
    path = Path(file) if file and file != "-" else None
    if path is None and sys.stdout.isatty():
        raise click.UsageError("the script contains a token: add '| ssh HOST sh', or a FILE")
    if path is not None and not force:
        flyte_config.check_new(path)
    found = other_machine.serving(call(DomainList, "domain.list").domains, at)
    AppKey(*scope, "app")  # before a token is replaced
    if force:
        user = pwd.getpwuid(os.getuid()).pw_name
        for each in call(TokenList, "token.list").tokens:
            if (each.name, each.user) == (name, user):
                call(TokenList, "token.revoke", {"token": each.id, "all": False})
    args = {"name": name, "expires_s": expires, "project": scope[0], "domain": scope[1], "app": ""}
    made = call(Created, "token.create", args)
    try:
        text = other_machine.script(found, name, made.token, *scope)
        if path is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            flyte_config.write(path, text, force=force, mode=0o600)
    except BaseException:
        with contextlib.suppress(FlytedError):  # the first error is the one to be told
            call(TokenList, "token.revoke", {"token": made.token, "all": False})
        raise
    say(f"its token is valid until {for_people(made.status.expires_at)}; to end it: flytectl token revoke {name}")
    if found.state != "ok":
        say(f"note: {found.domain}: {found.state}")


def _trust() -> None:
    """Say how curl, browsers and other Python programs trust the CA; flyte has its path in the configuration."""
    from flytectl import trust
    from flytectl.daemon import call
    from flyted.contract.answers.machine import Authority

    if not trust.in_bundle(call(Authority, "ca.show").pem):
        say("note: to call the apps with curl or a browser: sudo flytectl ca install")
    say(f"note: Python programs that call the apps: export SSL_CERT_FILE={trust.BUNDLE}")
