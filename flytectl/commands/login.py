"""``flytectl login``: a link that logs a browser in, once."""

from __future__ import annotations

import click

from flytectl.options import out, say


@click.command()
def login() -> None:
    """Print a link that logs a browser in to this machine's pages and apps; it works once, for five minutes."""
    from flytectl.daemon import call

    out(str(call("login.create")["url"]))
    say("open it in a browser within five minutes; it works once, so pass it to nobody")
