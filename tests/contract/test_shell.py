"""What the shell of Flyte's fserve makes of an app's args. ``test_real_shell.py`` compares it with a real one."""

from __future__ import annotations

import pytest

from flyted.contract import shell
from flyted.contract.shell import UNCLOSED, Piece, divided, read, variable, with_texts, written
from flyted.launch.expand import expand
from flyted.plan.command import template

ENV = {"A": "a1", "B": "two words", "EMPTY": "", "BLANKS": " b ", "_x9": "nine", "PATH": "/usr/bin:/bin"}


def ours(text: str) -> list[str]:
    """The words that launch makes of what flyted hands it."""
    line = read([text])
    assert not line.syntax, line.syntax
    return expand([template(word) for word in line.words], ENV, frozenset())


@pytest.mark.parametrize(
    ("text", "syntax"),
    [
        ("mkdir -p /tmp/x && cd /tmp/x", "&&"),
        ("a; b", ";"),
        ("a | b", "|"),
        ("a > b", ">"),
        ("a 2>&1", ">&"),
        ("a &", "&"),
        ("a &&(b)", "&&"),
        ("(a)", "("),
        ("a\nb", "a new line"),
        ("a *.py", "the pattern *"),
        ("a x?", "the pattern ?"),
        ("a [ab]", "the pattern ["),
        ("a $(id)", "a command inside the line"),
        ("a `id`", "a command inside the line"),
        ('a "`id`"', "a command inside the line"),
        ('a "$(id)"', "a command inside the line"),
        ("a $((1+1))", "arithmetic"),
        ("a `((1+1))`", "a command inside the line"),
        ("a ${X:-y}", "${…} with more than a name in it"),
        ("a ${X%.py}", "${…} with more than a name in it"),
        ("a $1", "$1"),
        ("a $$", "$$"),
        ("a $?", "$?"),
        ("a #b", "# at the beginning of a word"),
        ("a ~/x", "~ at the beginning of a word"),
        ("X=1 a", "the assignment X="),
        ("cd /tmp", "cd, which is not a program"),
        ("exec a", "exec, which is not a program"),
        ("if true", "if, which is not a program"),
        ("! a", "!, which is not a program"),
    ],
)
def test_what_only_a_shell_can_do_is_known(text: str, syntax: str) -> None:
    """It is named, and the line is kept as fserve would hand it to the shell."""
    line = read(text.split(" "))
    assert (line.syntax, line.words, line.text) == (syntax, (), text)


@pytest.mark.parametrize("text", ["a 'b", 'a "b', "a '", 'x"'])
def test_a_quote_that_is_not_closed_is_known(text: str) -> None:
    """A shell would fail at each start of the app."""
    assert read([text]).syntax == UNCLOSED


@pytest.mark.parametrize("part", ["a", "a#", '"a"', "'a'", "\\a", "a$A", '"\\a$A"', "a "])
def test_a_long_line_is_read_in_linear_time(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each character is copied a few times; it was once for each character behind it, 17 s for a word of 650 KB."""
    copied = 0

    def counted(text: str = "", name: str = "", split: bool = False) -> Piece:
        nonlocal copied
        copied += len(text)
        return Piece(text, name, split)

    monkeypatch.setattr(shell, "Piece", counted)
    line = read([part * 5000])
    assert not line.syntax
    assert copied <= 2 * len(line.text)


def test_arguments_are_joined_with_blanks_as_fserve_does() -> None:
    """`streamlit run` as one word of a list are two; a quote may end in another argument."""
    assert [written(word) for word in read(["streamlit run", "a.py"]).words] == ["streamlit", "run", "a.py"]
    assert [written(word) for word in read(["x", "'a", "b'"]).words] == ["x", "'a b'"]
    given = ["streamlit run", "a.py", "$A", "--x=${A}", "'a b'", '"a', 'b"', ""]
    assert divided(given) == ("streamlit run", '"a', 'b"', "")


def test_variables_are_named() -> None:
    """Of a line for a shell all that look like one, whatever the shell makes of them."""
    assert read(["p", "$A", "--x=${B}y", "'$C'", "\\$D"]).names == ("A", "B")
    assert read(["p", "$A", "&&", "q", "${B:-x}", "${#C}"]).names == ("A", "B", "C")
    assert variable("${A}") == variable('"${A}"') == "A"
    assert variable("x${A}") == variable("'$A'") == variable("a") == ""


def test_texts_can_be_changed_and_variables_stay() -> None:
    """What is put in is quoted where a shell needs it."""
    assert with_texts("--model=${M}/old", lambda text: text.replace("/old", "/a b")) == "--model=$M'/a b'"
    assert with_texts("'{\"x\": 1}'", lambda text: text) == "'{\"x\": 1}'"
