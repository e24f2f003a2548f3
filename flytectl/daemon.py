"""Calls the daemon for a command. Imported only by commands that talk to the daemon."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from flytectl.options import has_colour, say
from flytectl.progress import clocked
from flytectl.render import event_text, safe
from flyted.contract import client
from flyted.contract.answers.codec import Answer, from_wire
from flyted.contract.answers.events import Event
from flyted.contract.errors import DaemonUnavailable, FlytedError, NotFound
from flyted.contract.version import VERSION

Kind = TypeVar("Kind", bound=Answer)

INTERRUPTED = {
    "app.serve": "flyted continues this deploy; to cancel it: flytectl app stop {name}",
    "app.start": "flyted continues to start the app; to cancel that: flytectl app stop {name}",
    "app.stop": "the app still stops, after its last requests have ended",
    "app.sleep": "the app still goes to sleep, after its last requests have ended",
    "app.delete": "if requests were still in flight, the app is stopped but not deleted: flytectl app get {name}",
    "data.export": "the archive is not complete",
    "data.import": "if all had been unpacked, the data was replaced; else nothing has changed: flytectl data ls",
    "image.build": "the image may be built already: flytectl image ls",
    "image.pull": "the image may be pulled already: flytectl image ls",
    "image.rebuild": "flyted continues the rebuild and the deploys after it: flytectl image ls",
    "image.prune": "if the deletion had begun, flyted finishes it: flytectl image ls",
    "secret.create": "the value may be stored; with --roll, flyted still restarts apps: flytectl secret get {name}",
}
"""Verbs that may take long, and get a clock → what happens to them when Ctrl-C ends the command that waits."""
IF_CANCELLED = {
    "app.serve": "this deploy is cancelled; the finished steps of its image are kept",
    "image.build": "the build is cancelled; its finished steps are kept",
    "image.pull": "the pull is cancelled; what is complete of it is kept",
    "image.rebuild": "the rebuild is cancelled: the image and its apps stay as they are, and finished steps are kept",
}
"""Verbs that flyted cancels if Ctrl-C comes while an image is built → what is said then."""


def call(
    kind: type[Kind],
    verb: str,
    args: dict[str, Any] | None = None,
    *,
    bulk: bytes | None = None,
    bundles: Mapping[str, int] | None = None,
    file: int | None = None,
    on_event: client.OnEvent | None = None,
) -> Kind:
    """Call a verb of the daemon behind ``$FLYTED_SOCKET`` (default: this machine's).

    Return its answer, which is of class ``kind``. Raise the errors of :func:`flyted.contract.client.call`, and
    ProtocolMismatch for an answer of another class; a NotFound gets a hint on what may have been meant.
    """
    path = Path(os.environ.get("FLYTED_SOCKET") or client.SOCKET)
    try:
        with clocked(on_event) if verb in INTERRUPTED else nullcontext(on_event) as heard:
            answer = client.call(
                verb, args, bulk=bulk, bundles=bundles, file=file, on_event=heard, path=path, ends=verb in IF_CANCELLED
            )  # fmt: skip
            return from_wire(kind, answer)
    except NotFound as error:
        hint = _suggestion(verb, args or {}, path)
        error.hint = "\n".join(filter(None, (hint, error.hint)))
        raise
    except client.NotTaken:
        say("interrupted before flyted began: nothing was done")
        raise
    except client.Ended:
        say(f"interrupted: {IF_CANCELLED[verb]}")
        raise
    except KeyboardInterrupt:
        if verb in INTERRUPTED:
            say(f"interrupted: {INTERRUPTED[verb].format(name=_name(args or {}))}")
        raise


def show(event: Event) -> None:
    """Write an event of a call to standard error, as progress."""
    say(event_text(event, has_colour(sys.stderr)))


def _name(args: dict[str, Any]) -> str:
    """Return the name of the app or secret in a verb's arguments."""
    key = args.get("spec", {}).get("key", args)
    return safe(key.get("name") or key.get("key") or "NAME")


def _suggestion(verb: str, args: dict[str, Any], path: Path) -> str:
    from flytectl import nearest  # noqa: PLC0415  difflib only where something was not found

    listing = nearest.LISTINGS.get(verb)
    if listing is None:
        return ""
    try:
        found = from_wire(listing.kind, client.call(listing.verb, dict(listing.args), path=path))
    except FlytedError:
        return ""
    return nearest.suggestion(args, listing, listing.named(found))


def require_same_version() -> None:
    """Raise an error of the client if the daemon is down, or ProtocolMismatch if its version is not this command's."""
    from flyted.contract.answers.machine import Versions  # noqa: PLC0415  no other command asks for versions

    client.check_version(call(Versions, "version").version, VERSION)


def restart() -> None:
    """Restart the daemon and wait until it serves; apps keep running. Needs root.

    Raise DaemonUnavailable if it does not start.
    """
    import subprocess  # noqa: PLC0415  few commands restart the daemon

    done = subprocess.run(
        ["systemctl", "restart", "flyted.service"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        raise DaemonUnavailable(
            "flyted did not restart", hint="journalctl -u flyted -u flyted-rotate -n 20; systemctl start flyted"
        )
