"""Tokens: their text, what is stored of them, and how they travel."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract import token, wire
from flyted.contract.errors import InvalidInput, ProtocolMismatch, Unauthenticated
from flyted.contract.version import PROTOCOL


@given(st.binary(min_size=32, max_size=32))
def test_every_32_bytes_give_a_token_of_the_one_shape(random: bytes) -> None:
    """`flyted_` and 43 characters that need no quoting in a header, a cookie, a URL or a shell."""
    made = token.new(random)
    assert token.valid_shape(made)
    assert re.fullmatch(r"flyted_[A-Za-z0-9_-]{43}", made)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_other_bytes_give_another_token(one: bytes, two: bytes) -> None:
    """All 256 bits are in it."""
    assert (token.new(one) == token.new(two)) == (one == two)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_token_is_never_shorter(size: int) -> None:
    """A caller that draws too little randomness is stopped."""
    with pytest.raises(InvalidInput):
        token.new(b"x" * size)


def test_what_is_stored_is_what_haproxy_computes() -> None:
    """`sha2(256),hex,lower` of HAProxy and Python's hexdigest are the same text."""
    made = token.new(bytes(32))
    assert token.digest(made) == hashlib.sha256(made.encode()).hexdigest()
    assert re.fullmatch(r"[0-9a-f]{64}", token.digest(made))


GOOD = token.new(bytes(32))


@pytest.mark.parametrize(
    "text",
    ["", "flyted_", GOOD[:-1], GOOD + "A", GOOD + "\n", " " + GOOD, GOOD.upper(), GOOD[7:], GOOD[:-1] + "é", 7],
)
def test_nothing_else_is_taken_for_a_token(text: object) -> None:
    """Not a line break more, not another case, not another type."""
    assert not token.valid_shape(text)


def test_a_token_travels_beside_the_arguments_and_is_in_no_repr() -> None:
    """Handlers see arguments, and a logged request shows no token."""
    frame = wire.encode_request("app.list", {"project": ""}, GOOD)
    request = wire.parse_request(wire.decode(frame[4:]))
    assert (request.verb, request.args, request.token) == ("app.list", {"project": ""}, GOOD)
    assert GOOD not in repr(request)


def test_a_request_without_a_token_is_as_it_was() -> None:
    """Clients of the control socket say nothing new."""
    assert wire.decode(wire.encode_request("version", {})[4:]) == {"v": PROTOCOL, "verb": "version", "args": {}}


@pytest.mark.parametrize("bad", [7, None, b"x", ["x"], {"a": "b"}])
def test_a_token_of_another_type_is_no_request(bad: object) -> None:
    """Refused before anybody looks at it."""
    with pytest.raises(ProtocolMismatch):
        wire.parse_request({"v": PROTOCOL, "verb": "version", "args": {}, "token": bad})


def test_a_huge_token_is_not_a_token() -> None:
    """What a stranger sends through the gateway gets the gateway's own answer to strangers."""
    with pytest.raises(Unauthenticated):
        wire.parse_request({"v": PROTOCOL, "verb": "version", "args": {}, "token": "x" * 200})
