"""Bech32 against BIP 173's own examples, and as the inverse of itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.host import bech32
from tests.host.vaults import MACHINE

VALID = [
    ("A12UEL5L", "A", ""),
    ("a12uel5l", "a", ""),
    ("abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", "abcdef", "00443214c74254b635cf84653a56d7c675be77df"),
    ("?1ezyfcl", "?", ""),
]
INVALID = ["pzry9x0s0muk", "1pzry9x0s0muk", "x1b4n0q5v", "li1dgmt3", "A1G7SGD8", "10a06t8", "1qzzfhee", "a12UEL5L", ""]


@pytest.mark.parametrize(("text", "prefix", "data"), VALID)
def test_the_examples_of_bip_173(text: str, prefix: str, data: str) -> None:
    """Valid ones decode, and encode to the same text."""
    assert bech32.decode(text) == (prefix, bytes.fromhex(data))
    assert bech32.encode(prefix.lower(), bytes.fromhex(data)) == text.lower()


@pytest.mark.parametrize("text", INVALID)
def test_the_invalid_examples_of_bip_173(text: str) -> None:
    """No separator, no prefix, a wrong character, a short or wrong checksum, mixed case."""
    with pytest.raises(ValueError, match=r"too long|mixed|form|checksum"):
        bech32.decode(text)


@settings(deadline=None)
@given(st.from_regex(r"[a-z-]{1,16}", fullmatch=True), st.binary(max_size=40))
def test_what_is_encoded_is_decoded(prefix: str, data: bytes) -> None:
    """In either case of letters."""
    text = bech32.encode(prefix, data)
    assert bech32.decode(text) == (prefix, data)
    assert bech32.decode(text.upper()) == (prefix.upper(), data)


@settings(deadline=None)
@given(st.data())
def test_a_mistyped_character_is_found(data: st.DataObject) -> None:
    """Any one character replaced: that is what the checksum is for."""
    text = str(MACHINE.recipient)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l1b").filter(lambda c: c != text[place]))
    with pytest.raises(ValueError, match=r"form|checksum"):
        bech32.decode(text[:place] + other + text[place + 1 :])


@settings(deadline=None)
@given(st.text(max_size=100))
def test_any_text_gives_a_value_or_value_error(text: str) -> None:
    """Nothing else is raised."""
    try:
        bech32.decode(text)
    except ValueError:
        return
    assert text.isascii()


def test_padding_must_be_zero() -> None:
    """Else one key had sixteen spellings."""
    values = bech32._regroup(bytes(32), 8, 5, pad=True)
    for last in range(32):
        respelled = [*values[:-1], last]
        check = bech32._polymod(bech32._expanded("age") + respelled + [0] * 6) ^ 1
        respelled += [check >> 5 * (5 - i) & 31 for i in range(6)]
        text = "age1" + "".join(bech32._ALPHABET[v] for v in respelled)
        if last & 15:
            with pytest.raises(ValueError, match="padding"):
                bech32.decode(text)
        else:
            assert len(bech32.decode(text)[1]) == 32


def test_the_length_is_bounded() -> None:
    """Longer than BIP 173 allows is refused before any work."""
    with pytest.raises(ValueError, match="too long"):
        bech32.decode(bech32.encode("age", bytes(60)))
