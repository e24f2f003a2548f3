"""Who gets a place when many want one: whoever has none gets one, the others share what is left. Pure.

A user's first place is nobody else's. Further ones come out of a shared room, in which a user may have as much as is
still free ("dynamic thresholds", Choudhury and Hahne 1998): alone half of it, beside one other user a third each, and
so on. So there is always something left for the next user, and nobody's work has to end for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

STRANGERS = -1
"""All users that are no account of this machine count as one: a user namespace gives a member thousands of these."""


@dataclass(frozen=True)
class Room:
    """``users``: how many may have a place; ``shared``: places beside their first; ``of_a_user``: with the first."""

    users: int
    shared: int
    of_a_user: int

    @property
    def most(self) -> int:
        """Places in all."""
        return self.users + self.shared


CONTROL = Room(users=256, shared=96, of_a_user=16)
"""Connections of all who are not root."""
FOLLOWED = Room(users=18, shared=14, of_a_user=8)
"""Followed logs. journalctl(1) has an inotify instance for each, of which all processes of root have 128 together."""
MOST_BYTES = 128 << 20
"""What requests may take of the daemon's memory while they are read and answered."""
DECODED = 32
"""A byte of msgpack is up to so many in Python (contract/wire.py)."""


@dataclass(frozen=True)
class Place:
    """An open connection: whose it is, and whether it has asked for something. One that has not is only idle."""

    uid: int
    asked: bool


@dataclass(frozen=True)
class Answer:
    """``refused``: why there is no place, "" when there is one. ``ended``: the place that is taken away for it."""

    refused: str = ""
    ended: int | None = None


def may_have(places: Mapping[int, int], user: int, room: Room) -> bool:
    """Whether ``user`` may have one more place; ``places``: user → how many they have now."""
    own = places.get(user, 0)
    if own == 0:
        return sum(count > 0 for count in places.values()) < room.users
    free = room.shared - sum(count - 1 for count in places.values() if count)
    return own < room.of_a_user and own - 1 < free


def next_of(waiting: Iterable[int], places: Mapping[int, int], room: Room) -> int | None:
    """Which of those who wait, first come first, gets a place now: who has the fewest; ``None``: nobody."""
    able = [(places.get(user, 0), index) for index, user in enumerate(waiting) if may_have(places, user, room)]
    return min(able)[1] if able else None


def admit(open_: Sequence[Place], uid: int, room: Room = CONTROL) -> Answer:
    """What becomes of a new connection of ``uid`` beside those that are open, oldest first.

    Where there is no place, the one that has been idle for longest goes: of the user, or anybody's for who has none.
    Root is never refused, nor does a busy connection end.
    """
    own = [index for index, place in enumerate(open_) if place.uid == uid]
    others = [index for index, place in enumerate(open_) if place.uid != 0]
    if len(own) < room.of_a_user if uid == 0 else may_have(_counts(open_), uid, room):
        return Answer()
    idle = next((index for index in own or others if not open_[index].asked), None)
    if uid == 0 or idle is not None:
        return Answer(ended=idle)
    if own:
        return Answer(f"you have {_requests(len(own))} open at flyted already, the most there may be now")
    return Answer("flyted has too many clients at once")


def may_hold(held: Mapping[int, int], uid: int, more: int, most: int = MOST_BYTES) -> bool:
    """Whether a request of ``uid`` may take ``more`` bytes; ``held``: user → bytes that their requests take now."""
    free = most - sum(count for user, count in held.items() if user != 0)
    return uid == 0 or held.get(uid, 0) + more <= free


def cost(frame: int, bulk: int = 0) -> int:
    """Bytes of memory that a request may take."""
    return frame * DECODED + bulk


def _counts(open_: Iterable[Place]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for place in open_:
        if place.uid != 0:
            counts[place.uid] = counts.get(place.uid, 0) + 1
    return counts


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
