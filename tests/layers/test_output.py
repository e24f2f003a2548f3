"""A step's output, and the secrets that are taken out of it."""

from __future__ import annotations

import base64

import pytest

from flyted.layers.output import Output

SECRET = "s3cret/of a build"


@pytest.fixture
def said(capfdbinary: pytest.CaptureFixture[bytes]) -> pytest.CaptureFixture[bytes]:
    """What was passed on."""
    return capfdbinary


def test_without_secrets_all_is_passed_on_at_once(said: pytest.CaptureFixture[bytes]) -> None:
    """Half a line too: a progress bar has no line's end."""
    output = Output([])
    output.heard(b"50 %\r\xff")
    assert said.readouterr().out == b"50 %\r\xff"


def test_a_secret_is_hidden_however_it_arrives(said: pytest.CaptureFixture[bytes]) -> None:
    """In pieces, at the end without a line's end, in an address, in base64, and each line of one with several."""
    output = Output([SECRET, "first line\nsecond line"])
    for piece in (
        b"a s3cr",
        b"et/of a ",
        b"build.\nof ",
        b"s3cret%2Fof%20a%20build\n",
        base64.b64encode(SECRET.encode()),
    ):
        output.heard(piece)
    output.heard(b"\nit is: second line\nend ")
    output.heard(b"s3cret/of a build")
    output.heard(b"")
    assert said.readouterr().out == b"a ***.\nof ***\n***\nit is: ***\nend ***"


def test_a_line_without_an_end_does_not_grow(said: pytest.CaptureFixture[bytes]) -> None:
    """It is passed on in parts, and a secret across the parts is still found."""
    output = Output([SECRET])
    for piece in [b"x" * 70_000, SECRET[:5].encode(), SECRET[5:].encode(), b"x" * 70_000, b""]:
        output.heard(piece)
    told = said.readouterr().out
    assert told == b"x" * 70_000 + b"***" + b"x" * 70_000


@pytest.mark.parametrize("secret", [SECRET, "long" * 15_000])
def test_a_long_line_is_not_cut_within_a_secret(secret: str, said: pytest.CaptureFixture[bytes]) -> None:
    """Wherever in the line it is, and however long."""
    for behind in (0, *range(8, 24), 40_000):
        output = Output([secret])
        for piece in (b"x" * 66_000 + secret.encode() + b"y" * behind, b"end", b""):
            output.heard(piece)
        assert said.readouterr().out == b"x" * 66_000 + b"***" + b"y" * behind + b"end"
