"""The events that the daemon sends while a verb runs: steps of the work, and lines of logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from flyted.contract.answers.codec import WIRE_ONLY, Answer, from_wire

STEP, START, NOTE, BUILD = "progress", "start", "note", "build"
"""Kinds of :class:`Progress`: the next step of the work, the first step that goes on when the client leaves (an app is
started), what the user should know, a line of the image's builder."""


@dataclass(frozen=True, slots=True)
class Progress(Answer):
    """A line about the work in progress."""

    kind: str  # STEP, START, NOTE or BUILD; a newer daemon may have others
    text: str = ""


@dataclass(frozen=True, slots=True)
class Accepted(Answer):
    """The request is checked: from here on only the machine can fail. The last three fields are a deploy's."""

    text: str
    revision: int = 0  # the one that is being deployed
    url: str = ""  # where it will be served
    spec_digest: str = ""  # AppSpec.digest()
    kind: str = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine(Answer):
    """A line of an app's log."""

    app: str = ""  # the app's name, filled in by who asked for its log
    time: int  # microseconds since 1970
    revision: int  # of the app; 0: none
    replica: int = 0  # of the revision
    source: str  # app, systemd, or flyted for who changed the app
    text: str
    kind: str = field(default="log", metadata=WIRE_ONLY)


Event = Progress | Accepted | LogLine

_KINDS: dict[str, type[Accepted | LogLine]] = {"accepted": Accepted, "log": LogLine}


def event_of(data: dict[str, Any]) -> Event:
    """Return the event in a decoded map. Raise :class:`ProtocolMismatch` for a map of another form."""
    return cast("Event", from_wire(_KINDS.get(str(data.get("kind")), Progress), data))
