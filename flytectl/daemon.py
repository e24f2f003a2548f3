"""The way from a command to the daemon, imported only by commands that talk to it."""

from __future__ import annotations

import os
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from flytectl.options import say
from flytectl.progress import clocked
from flytectl.render import safe
from flyted.contract import client
from flyted.contract.errors import DaemonUnavailable, FlytedError, NotFound
from flyted.contract.version import VERSION

INTERRUPTED = {
    "app.serve": "flyted goes on with this deploy; to end it: flytectl app stop {name}",
    "app.start": "flyted goes on starting the app; to end that: flytectl app stop {name}",
    "app.stop": "the app stops all the same, when its last requests have ended",
    "app.sleep": "the app goes to sleep all the same, when its last requests have ended",
    "app.delete": "if its last requests had not ended yet, the app is stopped, not deleted: flytectl app get {name}",
    "secret.create": "the value may be stored; with --roll, apps go on restarting: flytectl secret get {name}",
}
"""The verbs that one waits for, with a clock, and what becomes of them when Ctrl-C ends the command that does."""


def call(
    verb: str,
    args: dict[str, Any] | None = None,
    *,
    bulk: bytes | None = None,
    fd: int | None = None,
    on_event: client.OnEvent | None = None,
) -> dict[str, Any]:
    """Calls a verb of the daemon behind ``$FLYTED_SOCKET`` (default: this machine's); errors as the client's."""
    path = Path(os.environ.get("FLYTED_SOCKET") or client.SOCKET)
    try:
        with clocked(on_event) if verb in INTERRUPTED else nullcontext(on_event) as heard:
            return client.call(verb, args, bulk=bulk, fd=fd, on_event=heard, path=path)
    except NotFound as error:
        hint = _suggestion(verb, args or {}, path)
        error.hint = "\n".join(filter(None, (hint, error.hint)))
        raise
    except client.NotTaken:
        say("interrupted: flyted had not taken this up yet, and will not")
        raise
    except KeyboardInterrupt:
        if verb in INTERRUPTED:
            say(f"interrupted: {INTERRUPTED[verb].format(name=_name(args or {}))}")
        raise


def _name(args: dict[str, Any]) -> str:
    """What a verb is about, by its arguments."""
    key = args.get("spec", {}).get("key", args)
    return safe(key.get("name") or key.get("key") or "NAME")


def _suggestion(verb: str, args: dict[str, Any], path: Path) -> str:
    from flytectl import nearest  # noqa: PLC0415  difflib only where something was not found

    listing = nearest.LISTINGS.get(verb)
    if listing is None:
        return ""
    try:
        there = client.call(listing.verb, dict(listing.args), path=path)[listing.found]
    except (FlytedError, KeyError):
        return ""
    return nearest.suggestion(args, listing, there)


def require_same_version() -> None:
    """Fails early and clearly when the daemon is down or of another version than this command."""
    client.check_version(call("version"), VERSION)


def restart() -> None:
    """Starts the daemon anew and waits until it serves; apps go on meanwhile. Needs root."""
    done = subprocess.run(
        ["systemctl", "restart", "flyted.service"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        raise DaemonUnavailable(
            "flyted did not start again", hint="journalctl -u flyted -u flyted-rotate -n 20; systemctl start flyted"
        )
