"""``flytectl login``: a link that logs a browser in, once."""

from __future__ import annotations

import click

from flytectl.options import out, say


@click.command()
def login() -> None:
    """Print a link that logs a browser in.

    To this machine's pages and apps. It works once, for five minutes.
    """
    from flytectl.daemon import call

    out(str(call("login.create")["url"]))
    say("Open this link within 5 minutes. It works once; do not share it.")
