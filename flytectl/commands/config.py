"""``flytectl config …``: let Flyte's own command and SDK talk to this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from flytectl.options import app_scope, no_core_dump, out, period, say


@click.command()
@click.argument("file", required=False, type=click.Path(allow_dash=True))
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option(
    "--for-other-machine", "token_name", metavar="NAME",
    help="Write a script that sets up another machine, with a token of this name.",
)  # fmt: skip
@click.option("--at", "base", default="", metavar="DOMAIN", help="With it: the domain at which it finds this machine.")
@click.option(
    "--expires", default="30d", callback=period, metavar="PERIOD", help="With it: the token's lifetime [30d]."
)
@app_scope
def init(
    file: str | None, project: str, domain: str, *, force: bool, token_name: str | None, base: str, expires: int
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
        _for_other_machine(file, token_name, base, (project, domain), expires, force=force)
        return
    if base:
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
    file: str | None, name: str, base: str, scope: tuple[str, str], expires: int, *, force: bool
) -> None:
    """Create a token, and write the script with it; if that fails, the token is revoked."""
    from flytectl import flyte_config, other_machine
    from flytectl.daemon import call
    from flytectl.times import for_people
    from flyted.contract.answers.domains import DomainList
    from flyted.contract.answers.tokens import Created, TokenList

    no_core_dump()
    found = other_machine.serving(call(DomainList, "domain.list").domains, base)
    args = {"name": name, "expires_s": expires, "project": scope[0], "domain": scope[1], "app": ""}
    made = call(Created, "token.create", args)
    try:
        text = other_machine.script(found, made.token, *scope)
        if file in (None, "-"):
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            flyte_config.write(Path(str(file)), text, force=force, mode=0o600)
    except BaseException:
        call(TokenList, "token.revoke", {"token": made.token, "all": False})
        raise
    say(f"its token is valid until {for_people(made.status.expires_at)}")
    say(f"to end it before: flytectl token revoke {name}")


def _trust() -> None:
    """Say how curl, browsers and other Python programs trust the CA; flyte has its path in the configuration."""
    from flytectl import trust
    from flytectl.daemon import call
    from flyted.contract.answers.machine import Authority

    if not trust.in_bundle(call(Authority, "ca.show").pem):
        say("note: to call the apps with curl or a browser: sudo flytectl ca install")
    say(f"note: Python programs that call the apps: export SSL_CERT_FILE={trust.BUNDLE}")
