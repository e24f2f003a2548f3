"""Which arguments show a secret: no key gets into one, and a word that everybody uses is no key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flyted.launch.argv_guard import _check
from flyted.launch.refused import Refused
from tests.launch.harness import App, Unit, bundle

pytestmark = pytest.mark.slow

KEY = b"sk-7Yq2mB9xLw0d"


@pytest.mark.parametrize(
    "words", [["p", "postgres"], ["p", "--user=postgres"], "psql -U postgres", "psql --user=postgres x"]
)
def test_a_value_that_is_easy_to_guess_counts_as_a_word(words: list[str] | str) -> None:
    """It is a secret because its owner says so."""
    with pytest.raises(Refused, match="would show secret DB_USER"):
        _check(words, {"DB_USER": b"postgres"})


@pytest.mark.parametrize(
    "words", [["curl", "http://postgres:5432"], ["pg", "postgres_main"], "x /srv/postgres/data", ["postgresql"]]
)
def test_such_a_word_inside_another_is_no_secret(words: list[str] | str) -> None:
    """The app could reach no database whose host is named like its user."""
    _check(words, {"DB_USER": b"postgres"})


@pytest.mark.parametrize("form", ["{}", "--key={}", "https://u:{}@host/", "-p{}", "Authorization: Bearer {}", "{}\n"])
def test_a_key_is_found_wherever_it_is(form: str) -> None:
    """Nobody has such a value by chance."""
    with pytest.raises(Refused, match="would show secret K"):
        _check(["p", form.format(KEY.decode())], {"K": KEY})


def test_an_app_may_start_programs(
    make_unit: Callable[..., Unit], running: Callable[[App], App], tmp_path: Path
) -> None:
    """For real, in an app with both secrets."""
    unit = make_unit(secrets={"s0": ("env:DB_USER", b"postgres"), "s1": ("env:K", KEY)})
    text = (
        "import os, subprocess\n"
        "print(subprocess.run(['echo', 'http://postgres:5432'], capture_output=True, text=True).stdout, end='')\n"
        "subprocess.run(['echo', os.environ['K']])\n"
    )
    app = running(unit.start(bundle(tmp_path, {"p.py": text}), ["python", "p.py"]))
    assert app.wait() == 78
    assert app.out == "http://postgres:5432\n"
    assert "would show secret K to all users" in app.err
