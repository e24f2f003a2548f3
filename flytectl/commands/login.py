"""``flytectl login``: print a link that logs a browser in, once."""

from __future__ import annotations

import click

from flytectl.options import as_json, out, say


@click.command()
@as_json
def login(*, json_: bool) -> None:
    """Print a link that logs a browser in.

    The login is for this machine's pages and apps. The link works once, within five minutes.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.answers.tokens import LoginLink

    made = call(LoginLink, "login.create")
    out(render.to_json(made) if json_ else made.url)
    say("Open this link within 5 minutes. It works once; do not share it.")
