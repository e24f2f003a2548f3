"""Bech32 (BIP 173), as age uses it for its keys: ``age1…`` and ``AGE-SECRET-KEY-1…``."""

from __future__ import annotations

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM = 6  # characters
MAX_LENGTH = 90
"""Characters. BIP 173's own limit; an X25519 key of either kind is shorter."""


def encode(prefix: str, data: bytes) -> str:
    """Return ``data`` in Bech32 behind a lower-case ``prefix``, with its checksum."""
    values = _regroup(data, 8, 5, pad=True)
    check = _polymod(_expanded(prefix) + values + [0] * _CHECKSUM) ^ 1
    values += [(check >> 5 * (_CHECKSUM - 1 - i)) & 31 for i in range(_CHECKSUM)]
    return f"{prefix}1{''.join(_ALPHABET[v] for v in values)}"


def decode(text: str) -> tuple[str, bytes]:
    """Return the prefix (in the case in which it was written) and the data.

    Raises ``ValueError`` for anything else; its message never repeats any of ``text``, which may be a private key.
    """
    if len(text) > MAX_LENGTH or not text.isascii() or not text.isprintable():
        raise ValueError("too long, or not plain text")
    if text.lower() != text and text.upper() != text:
        raise ValueError("upper and lower case are mixed")
    prefix, one, rest = text.rpartition("1")
    values = [_ALPHABET.find(c) for c in rest.lower()]
    if not one or not prefix or len(values) < _CHECKSUM or -1 in values:
        raise ValueError("not of the form PREFIX1DATA")
    if _polymod(_expanded(prefix.lower()) + values) != 1:
        raise ValueError("the checksum is wrong: it was mistyped or cut off")
    return prefix, bytes(_regroup(values[:-_CHECKSUM], 5, 8, pad=False))


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            check ^= generator if top >> bit & 1 else 0
    return check


def _expanded(prefix: str) -> list[int]:
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def _regroup(data: bytes | list[int], width: int, into: int, *, pad: bool) -> list[int]:
    held, bits, out = 0, 0, []
    for value in data:
        held, bits = held << width | value, bits + width
        while bits >= into:
            bits -= into
            out.append(held >> bits & (1 << into) - 1)
        held &= (1 << bits) - 1
    if pad and bits:
        out.append(held << into - bits & (1 << into) - 1)
    elif bits >= width or held:
        raise ValueError("the padding is not zero")
    return out
