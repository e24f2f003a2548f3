"""Leaves one entry in the journal for each call of a verb that changes something, however it ends.

``flytectl logs APP`` finds an app's entries by the field ``FLYTED_APP``, which is trusted only in entries of flyted's
own unit. The revision records who deployed it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence

from flyted.contract.errors import FlytedError
from flyted.daemon.api.actor import NOBODY, Actor
from flyted.daemon.api.outbox import ClientGone
from flyted.daemon.api.verbs import About, Verb
from flyted.host import people
from flyted.plan.changes import DONE, Change, entry

Write = Callable[[Sequence[tuple[str, str]]], None]
"""A function that writes one entry, given its fields (host/journald.py)."""

CLIENT_LEFT, INTERRUPTED, INTERNAL = "client-left", "interrupted", "internal"


@contextlib.contextmanager
def recorded(write: Write, name: str, verb: Verb, actor: Actor) -> Iterator[About]:
    """Run a verb inside, then write its entry if it changes something; the handler fills in what is yielded."""
    about = About()
    outcome = INTERNAL
    try:
        yield about
        outcome = about.outcome or DONE
    except FlytedError as error:
        outcome = error.code
        raise
    except ClientGone:
        outcome = CLIENT_LEFT
        raise
    except asyncio.CancelledError:
        outcome = INTERRUPTED
        raise
    finally:
        if verb.changes:
            _record(write, name, actor, outcome, about)


def _record(write: Write, name: str, actor: Actor, outcome: str, about: About) -> None:
    """Write the entry, but none for a stranger: callers who have proved nothing could fill the journal."""
    uid, user = about.owner or (actor.uid, user_of(actor))
    if uid == NOBODY.uid:
        return
    token = actor.token.id if actor.token else ""
    write(entry(Change(name, user, uid, token, outcome, about.names)))


def user_of(actor: Actor) -> str:
    """Return the user's name, as the kernel or the token says."""
    return actor.token.user if actor.token else people.name_of(actor.uid)
