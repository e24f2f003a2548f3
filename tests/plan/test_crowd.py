"""Who gets a place when many want one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.wire import BULK_LIMIT, REQUEST_LIMIT
from flyted.plan.crowd import CONTROL, MOST_BYTES, Answer, Place, Room, admit, cost, may_have, may_hold, next_of

pytestmark = pytest.mark.slow

SMALL = Room(users=5, shared=6, of_a_user=4)
PLACES = st.lists(st.builds(Place, st.integers(0, 12), st.booleans()), max_size=2 * CONTROL.most)


def busy(uid: int, count: int) -> list[Place]:
    """Connections that all wait for something."""
    return [Place(uid, asked=True)] * count


def greedy(users: int, room: Room) -> dict[int, int]:
    """What that many users have when each takes, in turn, all that is given."""
    places = dict.fromkeys(range(users), 0)
    while able := [user for user in places if may_have(places, user, room)]:
        places[min(able, key=lambda user: places[user])] += 1
    return places


def test_a_users_crowd_is_the_users_own_problem() -> None:
    """The seventeenth is refused, with what to do; another user, and root, come in as ever."""
    crowd = busy(1000, CONTROL.of_a_user)
    assert "you have 16 requests open" in admit(crowd, 1000).refused
    assert admit(crowd, 1001) == admit(crowd, 0) == Answer()


@pytest.mark.parametrize("users", [1, 2, 8, 40, 255])
def test_however_many_users_take_all_they_can_the_next_one_gets_in(users: int) -> None:
    """A first place is nobody else's; and while there are few users, a newcomer gets more than one."""
    places = greedy(users, CONTROL)
    assert max(places.values()) <= CONTROL.of_a_user
    assert max(places.values()) - min(places.values()) <= 1, "they have the same"
    crowd = [place for uid, count in places.items() for place in busy(uid + 1, count)]
    assert admit(crowd, 1000) == admit(crowd, 0) == Answer()
    if users < CONTROL.shared:
        assert admit([*crowd, *busy(1000, 1)], 1000) == Answer()


def test_a_share_shrinks_with_the_number_of_users() -> None:
    """Eight users with sixteen requests each are more than there is beside the reserved places: nobody has that."""
    assert [max(greedy(users, CONTROL).values()) for users in (1, 4, 5, 8, 40)] == [16, 16, 16, 12, 4]


def test_root_always_gets_in() -> None:
    """However many there are; what root has takes nothing from others."""
    crowd = [place for uid in range(1, CONTROL.users + 1) for place in busy(uid, 1)]
    assert admit(crowd, 1000).refused == "flyted has too many clients at once"
    assert admit([*crowd, *busy(0, 100)], 0) == Answer()
    assert admit([*busy(0, 500), *busy(1, 3)], 1) == admit(busy(0, 500), 2) == Answer()


def test_who_only_sits_there_makes_room() -> None:
    """The longest first, of the same user; for one who has nothing open, anybody's."""
    crowd = [Place(1, asked=False), *busy(1000, 14), Place(1000, asked=False), Place(1000, asked=False)]
    assert admit(crowd, 1000) == Answer(ended=15)
    crowd = [*busy(1, 2), Place(1, asked=False), *(place for uid in range(2, 7) for place in busy(uid, 1))]
    assert admit(crowd, 1000, SMALL) == Answer(ended=2)
    assert admit(crowd, 2, Room(users=6, shared=2, of_a_user=9)).refused, "nobody's place for who has one"


@given(PLACES, st.integers(0, 12))
def test_whoever_comes(places: list[Place], uid: int) -> None:
    """Nobody's work ends, root gets in, and a user who has nothing open does."""
    answer = admit(places, uid)
    assert answer.ended is None or (not places[answer.ended].asked and not answer.refused)
    own = sum(place.uid == uid for place in places)
    assert not answer.refused or (uid != 0 and own)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=200))
def test_places_stay_within_their_bounds(steps: list[tuple[int, bool]]) -> None:
    """Whoever comes and goes, in whatever order."""
    places: dict[int, int] = {}
    for user, comes in steps:
        if comes and may_have(places, user, SMALL):
            places[user] = places.get(user, 0) + 1
        elif not comes and places.get(user):
            places[user] -= 1
        assert sum(places.values()) <= SMALL.most
        assert max(places.values(), default=0) <= SMALL.of_a_user


def test_of_those_who_wait_the_one_with_the_fewest_is_next() -> None:
    """Of equals the one who came first; who may have no more is passed over."""
    assert next_of([1, 1, 2, 3], {1: 2, 2: 1, 3: 1}, SMALL) == 2
    assert next_of([1, 1, 4], {1: 2, 2: 1}, SMALL) == 2, "who has nothing open"
    assert next_of([1], {1: 4}, SMALL) is None
    assert next_of([], {}, SMALL) is None


def test_memory_is_bounded_and_shared_alike() -> None:
    """By bytes: one user gets half at most, root everything, and there is always room for another's request."""
    largest = cost(REQUEST_LIMIT, BULK_LIMIT)
    assert CONTROL.of_a_user * largest <= MOST_BYTES / 2, "who is alone never meets this bound"
    held: dict[int, int] = {}
    for uid in range(1, 20):
        for _ in range(CONTROL.of_a_user):
            if may_hold(held, uid, largest):
                held[uid] = held.get(uid, 0) + largest
        assert may_hold(held, 1000, cost(4096, 4096)), "a usual one always"
    assert sum(held.values()) <= MOST_BYTES
    assert may_hold(held, 0, MOST_BYTES)
    assert may_hold({0: MOST_BYTES}, 1, largest), "what root has takes nothing from others"
