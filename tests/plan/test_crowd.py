"""Who gets a connection when many want one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flyted.plan.crowd import MOST, MOST_OF_A_USER, Answer, Place, admit

PLACES = st.lists(st.builds(Place, st.integers(0, 12), st.booleans()), max_size=2 * MOST)


def busy(uid: int, count: int) -> list[Place]:
    """Connections that all wait for something."""
    return [Place(uid, asked=True)] * count


def test_a_users_crowd_is_the_users_own_problem() -> None:
    """The seventeenth is refused, with what to do; another user, and root, come in as ever."""
    crowd = busy(1000, MOST_OF_A_USER)
    assert "you have 16 requests open" in admit(crowd, 1000).refused
    assert admit(crowd, 1001) == admit(crowd, 0) == Answer()


def test_many_users_keep_out_other_users_and_never_root() -> None:
    """However many there are."""
    crowd = [place for uid in range(1, 40) for place in busy(uid, MOST_OF_A_USER)]
    assert admit(crowd, 1000).refused
    assert admit([*crowd, *busy(0, 100)], 0) == Answer()


def test_who_only_sits_there_makes_room() -> None:
    """The longest first; of the same user, where that one has too many."""
    assert admit([Place(1, asked=False), *busy(1000, 15), Place(1000, asked=False)], 1000) == Answer(ended=16)
    crowd = [place for uid in range(1, 9) for place in busy(uid, 15)]
    assert admit([*crowd, *(Place(9, asked=False) for _ in range(8))], 1000) == Answer(ended=len(crowd))


@given(PLACES, st.integers(0, 12))
def test_whoever_comes(places: list[Place], uid: int) -> None:
    """Nobody's work ends, root gets in, and a user has no more than there may be."""
    answer = admit(places, uid)
    assert answer.ended is None or (not places[answer.ended].asked and not answer.refused)
    assert not (uid == 0 and answer.refused)
    own = [place for place in places if place.uid == uid]
    assert bool(answer.refused) <= (sum(place.asked for place in own) >= MOST_OF_A_USER or len(places) >= MOST)
