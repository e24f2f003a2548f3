"""Who gets a connection to the daemon when many want one: no user keeps others out, nobody keeps root out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST = 128
"""Connections of all who are not root. Each may be a followed log, with a process of its own (``TasksMax=``)."""
MOST_OF_A_USER = 16


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


def admit(places: Sequence[Place], uid: int) -> Answer:
    """What becomes of a new connection of ``uid`` beside ``places``, oldest first.

    Where there are too many, the one that has been idle for longest goes: of the user, where it is the user who has
    too many. Root is never refused, nor does a busy connection end.
    """
    own = [index for index, place in enumerate(places) if place.uid == uid]
    others = [index for index, place in enumerate(places) if place.uid != 0]
    if len(own) >= MOST_OF_A_USER:
        idle = _idle(places, own)
        if uid == 0 or idle is not None:
            return Answer(ended=idle)
        return Answer(f"you have {len(own)} requests open at flyted already, the most there may be")
    if len(others) >= MOST and uid != 0:
        idle = _idle(places, others)
        return Answer(ended=idle) if idle is not None else Answer("flyted has too many clients at once")
    return Answer()


def _idle(places: Sequence[Place], among: Sequence[int]) -> int | None:
    return next((index for index in among if not places[index].asked), None)
