"""Which tokens the ingress is told of, and in which words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flyted.plan.tokens import BROWSER, NAMED, SESSION, Token, counts, ingress_table, next_look


def test_strange_user_names_become_numbers_for_the_ingress() -> None:
    """A name with a space would be two words of HAProxy's table."""
    owner = (4711, "AD\\the boss")
    one = Token("d", "i", "session", owner[1], owner[0], "", "", 1.0, 100.0)
    assert ingress_table([one], {owner: True}, 50.0) == {"d": "100 * 4711"}
    assert ingress_table([one], {owner: False}, 50.0) == {}
    assert ingress_table([one], {}, 50.0) == {}
    assert ingress_table([one], {owner: True}, 100.0) == {}


TOKENS = st.builds(
    lambda kind, ends: Token(f"{kind}{ends}", f"{kind}{ends}", kind, "u", 1, "", "", 0.0, 1e9 + ends),
    st.sampled_from([SESSION, NAMED, BROWSER]), st.floats(-1e5, 1e5),
)  # fmt: skip


@given(st.lists(TOKENS, max_size=4), st.floats(-1e5, 1e5))
def test_no_token_begins_or_ends_to_count_between_two_looks(tokens: list[Token], now: float) -> None:
    """Also one that was made while the clock was ahead; and at the moment of a look it is decided which count."""
    now += 1e9
    for _ in range(20):
        due = next_look(tokens, now, hears=True, people_at=0.0)
        before = [counts(token, now) for token in tokens]
        if due is None:
            assert not any(before)
            assert [counts(token, now + 1e6) for token in tokens] == before
            return
        assert due > now
        middle = (now + due) / 2
        if middle < due:  # there are numbers between the two
            assert [counts(token, middle) for token in tokens] == before
        now = due
