"""Any bytes give a request or our error, never another exception, and never much memory."""

from __future__ import annotations

import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract import wire
from flyted.contract.errors import (
    FlytedError,
    InvalidInput,
    ProtocolMismatch,
    SecretNotFound,
    Unauthenticated,
    from_wire,
)
from flyted.contract.version import PROTOCOL

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=8), PLAIN, max_size=5))
def test_a_request_comes_back_as_it_went(args: dict[str, object]) -> None:
    """Plain values survive the wire."""
    frame = wire.encode_request("app.list", args)
    size = wire.length(frame[: wire.HEAD.size], wire.REQUEST_LIMIT)
    assert wire.parse_request(wire.decode(frame[wire.HEAD.size :])) == wire.Request("app.list", args)
    assert size == len(frame) - wire.HEAD.size


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_map_or_our_error(body: bytes) -> None:
    """No other exception ever leaves decode."""
    try:
        message = wire.decode(body)
        wire.parse_request(message)
    except FlytedError:
        return


@pytest.mark.parametrize("size", [0, wire.REQUEST_LIMIT + 1, 0xFFFFFFFF])
def test_a_length_out_of_bounds_is_refused_before_reading(size: int) -> None:
    """Four bytes cannot make us wait for, or allocate, four gigabytes."""
    with pytest.raises(ProtocolMismatch):
        wire.length(wire.HEAD.pack(size), wire.REQUEST_LIMIT)


def test_a_request_that_is_too_long_is_refused_in_words_of_the_user() -> None:
    """It is a file of requirements, most of all one with hashes: which limit, and what to write instead."""
    with pytest.raises(InvalidInput, match="the request is 97 KiB long, and flyted takes 64 KiB") as caught:
        wire.encode_request("image.build", {"image": {"files": {"r.txt": "x" * 100_000}}})
    assert "requirements files" in caught.value.hint


@pytest.mark.parametrize(
    "body",
    [
        b"\x91" * 60_000 + b"\x80",  # deep nesting
        b"\xdd\xff\xff\xff\xff",  # claims four thousand million items
        b"\xdc\xff\xff" + b"\x80" * 65535,  # empty maps: one byte here, seventy in memory
        b"\x81\xa1a" + b"\xdc\x0f\xff" + b"\x80" * 4095,
        b"\x81\xa1v\xc7\x01\x01\x00",  # an extension type
        b"\x81\xa1v\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # NaN
        b"\x81\xa1v\xa1\xff",  # not UTF-8
        b"\x81\x01\x02",  # a key that is no text
        b"\x80\x80",  # trailing bytes
    ],
)
def test_bombs_and_oddities_are_small_errors(body: bytes) -> None:
    """F13's bombs stay below 8 MiB and end in one error."""
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolMismatch):
            wire.parse_request(wire.decode(body))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "message",
    [
        {"v": PROTOCOL + 1, "verb": "x", "args": {}},
        {"v": PROTOCOL, "verb": 1, "args": {}},
        {"v": PROTOCOL, "verb": "x"},
        {"v": PROTOCOL, "verb": "x", "args": {}, "more": 1},
        {"v": PROTOCOL, "verb": "x", "args": []},
    ],
)
def test_requests_of_another_shape_are_refused(message: dict[str, object]) -> None:
    """Version, verb and arguments, and nothing else."""
    with pytest.raises(ProtocolMismatch):
        wire.parse_request(wire.decode(msgpack.packb(message)))


def test_a_token_that_is_too_long_is_not_one_of_flyteds() -> None:
    """It is refused before it is looked up; who uses another program's token reads so."""
    message = {"v": PROTOCOL, "verb": "x", "args": {}, "token": "x" * (wire.TOKEN_LIMIT + 1)}
    with pytest.raises(Unauthenticated, match="this is not a flyted token"):
        wire.parse_request(wire.decode(msgpack.packb(message)))


@pytest.mark.parametrize("bulk", [-1, wire.BULK_LIMIT + 1, "1", True, 1.5])
def test_bulk_out_of_bounds_is_refused(bulk: object) -> None:
    """A value is at most 512 KiB."""
    with pytest.raises(InvalidInput):
        _ = wire.Request("secret.create", {"bulk": bulk}).bulk


def test_errors_keep_their_kind_across_the_wire() -> None:
    """The client raises what the daemon raised; an unknown code stays readable."""
    frame = wire.error_frame(SecretNotFound("no 'K'", hint="flytectl secret create K"))
    with pytest.raises(SecretNotFound, match="no 'K'") as caught:
        wire.parse_answer(wire.decode(frame[wire.HEAD.size :]))
    assert caught.value.hint == "flytectl secret create K"
    assert type(from_wire("code-of-2031", "text", "")) is FlytedError
