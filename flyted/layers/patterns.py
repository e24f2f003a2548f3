r"""Compares names with a pattern of a Dockerfile: ``*``, ``?`` and ``[…]`` inside one component, ``\`` before each.

Source: path/filepath of Go, Match, which Dockerfiles are defined by. Time is bounded by the product of both lengths.
"""

from __future__ import annotations

from .damaged import Damaged, printable


def matches(parts: tuple[bytes, ...], pattern: tuple[bytes, ...]) -> bool:
    """Report whether a path matches a pattern, component by component. Raises :class:`Damaged` for a bad pattern."""
    return len(parts) == len(pattern) and all(
        matches_name(part, each) for part, each in zip(parts, pattern, strict=True)
    )


def matches_name(name: bytes, pattern: bytes) -> bool:
    """Report whether one name matches one component of a pattern."""
    tokens = _tokens(pattern)
    states = {0}  # how many tokens may have been used so far
    for byte in name:
        found: set[int] = set()
        for state in _past_stars(states, tokens):
            if state < len(tokens):
                token = tokens[state]
                if token is None:
                    found.add(state)
                elif byte in token:
                    found.add(state + 1)
        states = found
    return len(tokens) in _past_stars(states, tokens)


def _past_stars(states: set[int], tokens: list[frozenset[int] | None]) -> set[int]:
    """Return the states that are reached without a byte: each star may stand for nothing."""
    found: set[int] = set()
    for state in states:
        at = state
        found.add(at)
        while at < len(tokens) and tokens[at] is None:
            at += 1
            found.add(at)
    return found


def _tokens(pattern: bytes) -> list[frozenset[int] | None]:
    """Return the bytes that each place may have; None for any number of any bytes."""
    found: list[frozenset[int] | None] = []
    at = 0
    while at < len(pattern):
        char, at = pattern[at : at + 1], at + 1
        if char == b"*":
            found.append(None)
        elif char == b"?":
            found.append(_ANY)
        elif char == b"[":
            one, at = _set(pattern, at)
            found.append(one)
        else:
            if char == b"\\":
                char, at = _next(pattern, at)
            found.append(frozenset(char))
    return found


def _set(pattern: bytes, at: int) -> tuple[frozenset[int], int]:
    """Return the bytes of a ``[…]``, and where the pattern continues."""
    negative = pattern[at : at + 1] == b"^"
    at += negative
    found: set[int] = set()
    first = at
    while pattern[at : at + 1] != b"]" or at == first:
        low, at = _next_of_set(pattern, at)
        high = low
        if pattern[at : at + 1] == b"-":
            high, at = _next_of_set(pattern, at + 1)
        found.update(range(low[0], high[0] + 1))
    return (_ANY - found if negative else frozenset(found)), at + 1


def _next_of_set(pattern: bytes, at: int) -> tuple[bytes, int]:
    char, after = _next(pattern, at)
    if char in (b"-", b"]"):
        raise Damaged(f"{printable(pattern)} is not a valid pattern")
    return _next(pattern, after) if char == b"\\" else (char, after)


def _next(pattern: bytes, at: int) -> tuple[bytes, int]:
    char = pattern[at : at + 1]
    if not char:
        raise Damaged(f"{printable(pattern)} is not a valid pattern")
    return char, at + 1


_ANY = frozenset(range(256))
