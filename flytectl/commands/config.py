"""``flytectl config …``: let Flyte's own command and SDK talk to this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from flytectl.options import app_scope, out, say


@click.command()
@click.argument("file", required=False, type=click.Path(allow_dash=True))
@click.option("--force", is_flag=True, help="Replace an existing file.")
@app_scope
def init(file: str | None, project: str, domain: str, *, force: bool) -> None:
    """Write the configuration of 'flyte'.

    With it, flyte and its SDK talk to this machine.

    Write to FILE, by default ~/.flyte/config.yaml; to standard output if FILE is '-', or without FILE if standard
    output is not a terminal: flytectl config init > config.yaml
    """
    from flytectl import flyte_config
    from flytectl.daemon import call
    from flyted.contract.answers.machine import GatewayPlace

    text = flyte_config.render(call(GatewayPlace, "gateway.show"), project, domain)
    if file == "-" or (file is None and not sys.stdout.isatty()):
        sys.stdout.write(text)
    else:
        path = Path(file) if file else Path.home() / flyte_config.FILE
        flyte_config.write(path, text, force=force)
        out(f"wrote {path}")
    say("note: flyte looks for ./config.yaml first, for ~/.flyte/config.yaml last")
    _trust()


def _trust() -> None:
    """Say how curl, browsers and other Python programs trust the CA; flyte has its path in the configuration."""
    from flytectl import trust
    from flytectl.daemon import call
    from flyted.contract.answers.machine import Authority

    if not trust.in_bundle(call(Authority, "ca.show").pem):
        say("note: to call the apps with curl or a browser: sudo flytectl ca install")
    say(f"note: Python programs that call the apps: export SSL_CERT_FILE={trust.BUNDLE}")
