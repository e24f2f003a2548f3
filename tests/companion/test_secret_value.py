"""``flyte create secret NAME VALUE``, against the SDK's own command and parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.companion.secret_value import rewritten

create = pytest.importorskip("flyte.cli._create")
SECRET = create.secret


def parsed(*words: str) -> dict[str, object]:
    """What the SDK's command would be called with."""
    with SECRET.make_context("secret", rewritten(list(words), SECRET.params)) as context:
        return dict(context.params)


@pytest.mark.parametrize(
    "words",
    [
        ["KEY", "value"],
        ["--project", "p", "--domain", "d", "KEY", "value"],
        ["KEY", "-d", "d", "value", "-p", "p"],
        ["KEY", "value", "--type", "regular"],
        ["--type=regular", "KEY", "value", "--cluster-pool=x"],
        ["KEY", "--", "value"],
        ["-pp", "KEY", "value"],
    ],
)
def test_a_second_word_is_the_value(words: list[str]) -> None:
    """Wherever options stand; the name is the first word, and options keep their meaning."""
    got = parsed(*words)
    assert (got["name"], got["value"]) == ("KEY", "value")
    assert got["project"] in (None, "p")
    assert got["type"] == "regular"


@pytest.mark.parametrize("value", ["-abc", "--dashes-and-more", "-", "--", "---", "-=", "--foo-value", "-1", "="])
def test_a_value_may_begin_with_a_dash(value: str) -> None:
    """What is no option of the SDK's is the value; two dashes alone need the two dashes before them."""
    words = ["KEY", "--", value] if value == "--" else ["KEY", value]
    assert parsed(*words)["value"] == value


@given(st.text().filter(lambda text: "\0" not in text))
def test_any_text_is_a_value_behind_two_dashes(value: str) -> None:
    """``-- VALUE`` is never taken for something else."""
    assert parsed("KEY", "--", value)["value"] == value


@given(st.text(min_size=1).filter(lambda text: not text.startswith("-")))
def test_any_text_without_a_dash_is_a_value(value: str) -> None:
    """Byte for byte, whatever is in it."""
    assert parsed("KEY", value)["value"] == value


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["KEY"],
        ["KEY", "--value", "v"],
        ["KEY", "--value=v"],
        ["KEY", "--from-file", "f"],
        ["--from-file=f", "KEY", "extra"],
        ["KEY", "--help"],
        ["KEY", "a", "b"],
        ["KEY", "v", "--type", "image_pull"],
        ["KEY", "v", "--type=image_pull"],
        ["KEY", "--registry", "ghcr.io"],
        ["KEY", "--from-docker-config", "v"],
        ["KEY", "-p"],
    ],
)
def test_what_the_sdk_knows_goes_to_it_untouched(words: list[str]) -> None:
    """Its own ways to give a value, and mistakes: the SDK's answer is the answer."""
    assert rewritten(list(words), SECRET.params) == words


@pytest.mark.parametrize("typo", ["--projct", "--valeu", "--form-file", "--domian=x", "--tpye"])
def test_a_mistyped_option_is_no_value(typo: str) -> None:
    """It stays an error: nobody wants a secret with the value ``--projct``."""
    assert rewritten(["KEY", typo], SECRET.params) == ["KEY", typo]
    assert rewritten(["KEY", typo, "x"], SECRET.params) == ["KEY", typo, "x"]
