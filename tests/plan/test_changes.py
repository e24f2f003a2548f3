"""What the journal says of a change: a line for people, fields for journalctl."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flyted.host.journald import encoded
from flyted.plan.changes import Change, entry, message


def test_the_line_says_who_what_and_how_it_ended() -> None:
    """In this order, with what else was named in between."""
    made = Change("app.serve", "alice", 1000, "", "done", {"app": ("hello",), "revision": ("3",)})
    assert message(made) == "app serve hello: done (revision 3), by alice (uid 1000)"


def test_a_token_is_named_by_its_id() -> None:
    """The owner is the user; which of their tokens it was, too."""
    made = Change("app.delete", "bob", 1001, "5f0c1e", "not-found", {"app": ("a", "b")})
    assert message(made) == "app delete a, b: not-found, by bob (uid 1001, token 5f0c1e)"
    assert ("FLYTED_TOKEN_OF_ACTOR", "5f0c1e") in entry(made)


def test_a_change_of_nothing_in_particular() -> None:
    """No blank and no bracket stands for what is not there."""
    assert message(Change("secret.rotate", "root", 0, "", "permission", {})) == (
        "secret rotate: permission, by root (uid 0)"
    )


def test_each_name_is_a_field_of_its_own() -> None:
    """So journalctl finds the entry by each of them."""
    made = Change("secret.create", "alice", 1000, "", "replaced", {"secret": ("K",), "app": ("a", "b")})
    fields = entry(made)
    assert [value for name, value in fields if name == "FLYTED_APP"] == ["a", "b"]
    assert ("FLYTED_SECRET", "K") in fields
    assert ("FLYTED_ACTOR", "alice") in fields
    assert ("FLYTED_ACTOR_UID", "1000") in fields
    assert ("FLYTED_VERB", "secret.create") in fields
    assert ("FLYTED_OUTCOME", "replaced") in fields


def decoded(data: bytes) -> list[tuple[str, bytes]]:
    """The fields as journald reads them (systemd: JOURNAL_NATIVE_PROTOCOL)."""
    found = []
    while data:
        head, _, rest = data.partition(b"\n")
        if b"=" in head:
            name, _, value = head.partition(b"=")
            data = rest
        else:
            name, size = head, int.from_bytes(rest[:8], "little")
            value, data = rest[8 : 8 + size], rest[8 + size + 1 :]
        found.append((name.decode(), value))
    return found


@given(st.lists(st.text(max_size=30), max_size=5))
def test_no_text_ends_its_field(values: list[str]) -> None:
    """Whatever a name holds, no other field comes of it."""
    fields = [(f"F{number}", value) for number, value in enumerate(values)]
    assert decoded(encoded(fields)) == [(name, value.encode("utf-8", "replace")) for name, value in fields]
