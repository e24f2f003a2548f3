"""Which tokens the ingress is told of, and in which words."""

from __future__ import annotations

from flyted.plan.tokens import Token, grants


def test_strange_user_names_become_numbers_for_the_ingress() -> None:
    """A name with a space would be two words of HAProxy's table."""
    owner = (4711, "AD\\the boss")
    one = Token("d", "i", "session", owner[1], owner[0], "", "", 1.0, 100.0)
    assert grants([one], {owner: True}, 50.0) == {"d": "100 * 4711"}
    assert grants([one], {owner: False}, 50.0) == {}
    assert grants([one], {}, 50.0) == {}
    assert grants([one], {owner: True}, 100.0) == {}
