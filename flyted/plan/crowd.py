"""Decides who gets a place when many users want one: each user has a first place, the rest is shared. Pure.

No other user can take the first place. Further places come from a shared pool, of which a user may have as many as
are still free ("dynamic thresholds", Choudhury and Hahne 1998): alone half of it, beside one other user a third each,
and so on. So there is always something left for the next user, and no work has to be ended for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

STRANGERS = -1
"""The one user id for all ids without an account on this machine: in a user namespace a user has thousands of them."""


@dataclass(frozen=True)
class Room:
    """The limits on places.

    ``users``: the most users that may have a place. ``shared``: all further places together. ``of_a_user``: the most
    places of one user, the first included.
    """

    users: int
    shared: int
    of_a_user: int

    @property
    def most(self) -> int:
        """The number of all places."""
        return self.users + self.shared


CONTROL = Room(users=256, shared=96, of_a_user=16)
"""Limits on connections of users other than root."""
FOLLOWED = Room(users=18, shared=14, of_a_user=8)
"""Limits on followed logs. journalctl(1) needs an inotify instance for each; root's processes share 128 of them."""
MOST_BYTES = 128 << 20
"""Bytes of the daemon's memory that all requests together may take while they are read and answered."""
DECODED = 32
"""Bytes that one byte of msgpack may take in Python (contract/wire.py)."""


@dataclass(frozen=True)
class Place:
    """An open connection: its user, and whether it has asked for something. If it has not, it is idle."""

    uid: int
    asked: bool


@dataclass(frozen=True)
class Answer:
    """The answer to a new connection.

    ``refused``: why there is no place, "" when there is one. ``ended``: the index of the connection to close for it.
    """

    refused: str = ""
    ended: int | None = None


def may_have(places: Mapping[int, int], user: int, room: Room) -> bool:
    """Report whether ``user`` may have one more place. ``places``: user → the number of places that they have now."""
    own = places.get(user, 0)
    if own == 0:
        return sum(count > 0 for count in places.values()) < room.users
    free = room.shared - sum(count - 1 for count in places.values() if count)
    return own < room.of_a_user and own - 1 < free


def next_of(waiting: Iterable[int], places: Mapping[int, int], room: Room) -> int | None:
    """Return the index of the user in ``waiting`` who gets a place now; ``None`` if none can have one.

    The user with the fewest places comes first; among equals, the one who has waited longest. ``waiting``: in the
    order of arrival.
    """
    able = [(places.get(user, 0), index) for index, user in enumerate(waiting) if may_have(places, user, room)]
    return min(able)[1] if able else None


def admit(open_: Sequence[Place], uid: int, room: Room = CONTROL) -> Answer:
    """Decide whether a new connection of ``uid`` is accepted. ``open_``: the open connections, oldest first.

    If there is no place, the oldest idle connection is closed: one of the user's own, or anybody's but root's if the
    user has none. Root is never refused, and a connection that has asked for something is never closed.
    """
    own = [index for index, place in enumerate(open_) if place.uid == uid]
    others = [index for index, place in enumerate(open_) if place.uid != 0]
    if len(own) < room.of_a_user if uid == 0 else may_have(_counts(open_), uid, room):
        return Answer()
    idle = next((index for index in own or others if not open_[index].asked), None)
    if uid == 0 or idle is not None:
        return Answer(ended=idle)
    if own:
        return Answer(f"you have {_requests(len(own))} open already, the current limit")
    return Answer("flyted has too many clients at once")


def may_hold(held: Mapping[int, int], uid: int, more: int, most: int = MOST_BYTES, *, exempt: int | None = 0) -> bool:
    """Report whether a request of ``uid`` may take ``more`` bytes of memory.

    ``held``: user → the bytes that their requests take now. ``most``: the bytes for all users but ``exempt``, who may
    take any number: root, or nobody.
    """
    free = most - sum(count for user, count in held.items() if user != exempt)
    return uid == exempt or held.get(uid, 0) + more <= free


def cost(frame: int, bulk: int = 0) -> int:
    """Return the bytes of memory that a request may take.

    ``frame``: its bytes of msgpack. ``bulk``: further bytes, which are not decoded.
    """
    return frame * DECODED + bulk


def _counts(open_: Iterable[Place]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for place in open_:
        if place.uid != 0:
            counts[place.uid] = counts.get(place.uid, 0) + 1
    return counts


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
