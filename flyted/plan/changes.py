"""Writes the journal's entry of a change: who made it, to what, and how it ended. Pure.

The kind of thing that changed is the first word of the verb; the handler says which one it was (``about``). An entry
contains names only: never a value, a token, or the message of an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

DONE = "done"
_NOTICE = "5"  # syslog(3)
_PREFIX = "FLYTED_"


@dataclass(frozen=True)
class Change:
    """One call of a verb that changes something.

    ``token``: the id of the token that came with the call, "" for a user on the control socket. ``outcome``: what the
    handler said of a success, else the code of the error. ``about``: names only, by kind.
    """

    verb: str
    user: str
    uid: int
    token: str
    outcome: str
    about: Mapping[str, tuple[str, ...]]


def entry(change: Change) -> list[tuple[str, str]]:
    """Return the fields of the journal's entry. A field with several values is repeated."""
    who = [("VERB", change.verb), ("ACTOR", change.user), ("ACTOR_UID", str(change.uid)), ("OUTCOME", change.outcome)]
    if change.token:
        who.append(("TOKEN_OF_ACTOR", change.token))
    named = [(kind.upper(), name) for kind, names in change.about.items() for name in names]
    fields = [(_PREFIX + name, value) for name, value in [*who, *named]]
    return [("MESSAGE", message(change)), ("PRIORITY", _NOTICE), *fields]


def message(change: Change) -> str:
    """Return the entry's message: ``app serve hello: done (revision 3), by alice (uid 1000)``."""
    kind = change.verb.partition(".")[0]
    what = " ".join([change.verb.replace(".", " "), *filter(None, [", ".join(change.about.get(kind, ()))])])
    details = "; ".join(_details(kind, change.about))
    token = f", token {change.token}" if change.token else ""
    ended = change.outcome + (f" ({details})" if details else "")
    return f"{what}: {ended}, by {change.user} (uid {change.uid}{token})"


def _details(kind: str, about: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for name, values in about.items():
        if name != kind and values:
            yield f"{name} {', '.join(values)}"
