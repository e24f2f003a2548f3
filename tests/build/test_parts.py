"""The builder's pure parts, with values."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.build import main, uv
from flyted.build.pythons import Python, nearest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("asked", "found", "used"),
    [
        ((3, 12), [(3, 11), (3, 13)], (3, 13)),
        ((3, 12), [(3, 11), (3, 14)], (3, 11)),
        ((3, 12), [(3, 9), (3, 14)], (3, 14)),
        ((3, 10), [(3, 13), (3, 11)], (3, 11)),
        ((3, 14), [(3, 10), (3, 12)], (3, 12)),
        ((3, 12), [(3, 9), (2, 12)], None),
        ((3, 12), [], None),
    ],
)
def test_the_nearest_python_that_is_new_enough_is_used(
    asked: tuple[int, int], found: list[tuple[int, int]], used: tuple[int, int] | None
) -> None:
    """Never below 3.10; of two equally near ones the newer."""
    best = nearest(asked, [Python(f"/usr/bin/python{a}.{b}", (a, b)) for a, b in found])
    assert (best.version if best else None) == used


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["error: No solution found", "  cause: Because x was not found,", "         we give up."],
         "Because x was not found, we give up."),
        (["  x No solution found when resolving dependencies:", "  ╰─▶ Because x was not found in the package",
          "      registry and you require x, we give up.", "", "      hint: y"],
         "Because x was not found in the package registry and you require x, we give up."),
        (["error: Failed", "  cause: dns error", "  cause: no such host"], "no such host"),
        (["Resolved 3 packages", "killed"], "killed"),
        ([], ""),
    ],
)  # fmt: skip
def test_the_reason_is_uvs_innermost_one(lines: list[str], expected: str) -> None:
    """Out of all that uv says, one line remains for the error; uv's words of several versions are understood."""
    assert uv.reason(lines) == expected


@pytest.mark.parametrize(
    "said",
    [
        "error: Building source distributions is disabled, but attempted to build `demo`",
        "error: Failed to build `demo @ https://host/demo-1.0.tar.gz`\n"
        "  cause: Building source distributions for `demo` is disabled",
        "  x Failed to build `demo @ git+https://host/demo.git`\n"
        "  ╰─▶ Building source distributions for `demo` is disabled",
        "hint: Wheels are required for `demo` because building from source is disabled for `demo`",
    ],
)
def test_a_package_without_a_wheel_is_known_by_uvs_words(said: str) -> None:
    """Also one that is named by its address, whose name uv learns only by building it."""
    assert uv.needs_source(f"Resolved 1 package in 2ms\n{said}\n") == "demo"
    assert uv.needs_source("error: Failed to build `demo`\n  cause: no space left") == ""


def without(text: str, *secrets: str) -> str:
    """What is shown of uv's output."""
    values = {f"S{number}": value for number, value in enumerate(secrets)}
    return uv.Uv("uv", Path("/i"), Path("/i/c"), Path("/s"), values).without_secrets(text)


@pytest.mark.parametrize(
    "spelled",
    ["p!a:b é", "p!a%3Ab%20é", "%70!a:b é", "p!a%3ab+%C3%A9", quote("p!a:b é", safe=""), quote_plus("p!a:b é")],
)
def test_a_secret_is_masked_however_an_address_quotes_it(spelled: str) -> None:
    """Python's library quotes the exclamation mark, Rust's leaves it."""
    assert without(f"error: https://me:{spelled}@host/simple", "p!a:b é") == "error: https://me:***@host/simple"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="|"), min_size=1, max_size=20), st.data())
def test_whichever_characters_are_quoted_nothing_of_a_secret_is_left(value: str, data: st.DataObject) -> None:
    """Every choice of quoted characters."""
    spelled = "".join(quote(each, safe="") if data.draw(st.booleans()) else each for each in value)
    assert without(f"|{spelled}|", value) == "|***|"


def test_a_percent_sign_of_a_secret_is_masked_with_its_quotation() -> None:
    """``%25`` as a whole, and not the sign alone."""
    assert without("a%25b a%b", "%") == "a***b a***b"


def test_a_secret_that_is_a_part_of_another_hides_none_of_it() -> None:
    """The longer one first; one that is longer than the line is not looked for."""
    assert without("ab abc xabcdef", "abc", "abcdef", "z" * 100_000) == "ab *** x***"
