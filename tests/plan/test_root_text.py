"""Words with variables, as a Dockerfile has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.errors import FlytedError, InvalidInput, Unsupported
from flyted.plan.images.text import expand, with_variables, word

VALUES = {"X": "1", "EMPTY": "", "DIR": "/a b"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""), ("plain", "plain"), ("$X", "1"), ("${X}y", "1y"), ("$Xy", ""), ("a$X/b", "a1/b"), ("$", "$"),
        ("a$ b", "a$ b"),
        ("${X:-no}", "1"), ("${NOT:-yes}", "yes"), ("${EMPTY:-yes}", "yes"), ("${EMPTY-yes}", ""),
        ("${NOT-yes}", "yes"),
        ("${X:+yes}", "yes"), ("${EMPTY:+yes}", ""), ("${EMPTY+yes}", "yes"), ("${NOT:+yes}", ""),
        ("${NOT:-${X:-${Y}}}", "1"), ("${NOT:-a'}'b}", "a}b"), ("'$X'", "$X"), ('"$X"', "1"), ('"a\\"$X"', 'a"1'),
        ("\\$X", "$X"),
        ('"\\$X"', "$X"), ('"\\n"', "\\n"), ("\\n", "n"), ("${DIR}/c", "/a b/c"), ("it\\'s", "it's"), ("a\\", "a"),
        ("${X:?no}", "1"),
    ],
)  # fmt: skip
def test_words_are_expanded_as_docker_does(text, value):
    """The cases of buildkit's envVarTest that our grammar has."""
    assert expand(word(text, "here"), VALUES, "here") == value


def test_the_escape_character_of_windows_files():
    """# escape=` makes the backslash an ordinary character."""
    assert expand(word("C:\\a`$X", "here", "`"), VALUES, "here") == "C:\\a$X"


@pytest.mark.parametrize("text", ["'a", '"a', "${X", "${X:-a", "${", "${}", "${-}x${", "${X:?", '"${X"'])
def test_what_is_not_closed_is_an_error(text):
    """With the place and the text."""
    with pytest.raises(InvalidInput, match="here"):
        word(text, "here")


@pytest.mark.parametrize("text", ["${X#a}", "${X%%a}", "${X/a/b}", "${X:0:1}"])
def test_a_pattern_is_refused_by_name(text):
    """With what may be written instead."""
    with pytest.raises(Unsupported, match="not supported") as caught:
        word(text, "here")
    assert "${X:-value}" in caught.value.hint


def test_a_variable_may_be_demanded():
    """${NAME:?why}."""
    with pytest.raises(InvalidInput, match="set VERSION"):
        expand(word("${VERSION:?set VERSION}", "here"), {}, "here")


def test_values_of_an_image_spec_have_variables_but_no_quotes():
    """As a venv image reads them (env_of)."""
    assert expand(with_variables("\"$X\" '${X}' \\$X $ ${X:-a}"), VALUES, "here") == "\"1\" '1' $X $ ${X:-a}"


def test_no_text_grows_without_bounds():
    """Doubling ends in an error before it fills the memory."""
    with pytest.raises(InvalidInput, match="too long"):
        expand(word("$A" * 4000, "here"), {"A": "x" * 8000}, "here")
    with pytest.raises(InvalidInput, match="too deep"):
        word("${A:-" * 5000 + "}" * 5000, "here")


@given(st.text(alphabet="${}:-+?'\"\\aX ", max_size=40))
def test_any_text_is_a_word_or_our_error(text):
    """It comes from a stranger."""
    try:
        expand(word(text, "here"), VALUES, "here")
    except FlytedError:
        return
