"""``flytectl version``: show the versions of this command and of the daemon."""

from __future__ import annotations

import click

from flytectl.options import as_json, out


@click.command()
@as_json
def version(*, json_: bool) -> None:
    """Show the versions of flytectl and flyted."""
    from flytectl.daemon import call
    from flytectl.render import safe, to_json
    from flyted.contract.answers.machine import Versions
    from flyted.contract.client import check_version
    from flyted.contract.errors import FlytedError
    from flyted.contract.version import PROTOCOL, VERSION

    daemon, failure = None, None
    try:
        daemon = call(Versions, "version").version
    except FlytedError as error:
        failure = error
    if json_:
        out(to_json({"client": VERSION, "daemon": daemon, "protocol": PROTOCOL, "match": daemon == VERSION}))
    else:
        out(f"flytectl {VERSION}")
        if failure is None:
            out(f"flyted   {safe(daemon)}")
    if failure is not None:
        raise failure
    check_version(str(daemon), VERSION)
