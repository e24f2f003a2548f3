"""What strangers write is read by the daemon, which does nothing else meanwhile: no text may hold it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from flyted.contract.errors import InvalidInput
from flyted.plan.facts import Platform, RootFact
from flyted.plan.images import pixi
from flyted.plan.images.dockerfile_lines import instructions
from flyted.plan.images.root import on_path
from flyted.plan.images.root_check import check
from flyted.plan.images.root_script import needs_root
from tests.values import spec

LIMIT_S = 10
"""Each text here takes milliseconds; without a bound it was half a minute, minutes or, of 200 bytes, for ever."""
REQUEST = 60_000  # characters, nearly what a request may have


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """The test is ended if it does not end by itself."""

    def late(*_: object) -> None:
        raise AssertionError("it does not end")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("word", ["a=b=c=d ", "=== ", "= "])
def test_a_command_that_begins_as_one_of_pixi(word: str) -> None:
    """And goes on with words that could be variables in many ways."""
    command = "if [ ! -x /a/pixi ]; then curl -fsSL https://x | " + word * 500
    assert pixi.step("layer 1", command, ()) is None


@pytest.mark.parametrize("args", [["\n" * 8000] * 7, ["sh", "-c", "\n " * 4000], ["sh", "-c", "exec\n" * 1600]])
def test_an_app_whose_line_is_empty_for_long(args: list[str]) -> None:
    """Its programs are looked for between the ends of its lines."""
    root = RootFact(("a" * 32,), python="/usr/bin/python3")
    fserve = ("fserve", "--resolver-args", "app:env", "--", *args)
    for command in (fserve, tuple(args)):
        check(spec("a", command=command, port=8080), root, Platform(kernel=(6, 12)))


@pytest.mark.parametrize("part", ["[", "test ", "case [", "$USER", "id -u", "[\n"])
def test_a_script_that_may_ask_who_runs_it(part: str) -> None:
    """Of the length that is read of a script."""
    needs_root("#!/bin/sh\n" + part * (65_000 // len(part)))
    needs_root("#!/bin/sh\n[ " + part * (65_000 // len(part)) + " $UID")


@pytest.mark.parametrize(
    "text", [f"# a = x{' ' * REQUEST}y z\nFROM x", f"#{' ' * REQUEST}a\nFROM x", f"# a ={' ' * REQUEST}b\nFROM x"]
)
def test_a_dockerfile_whose_first_line_is_long(text: str) -> None:
    """It is a comment, or a directive that says nothing here."""
    assert [each.name for each in instructions(text, "Dockerfile")] == ["FROM"]


def test_directives_are_read_as_they_were() -> None:
    """The blanks around a value are no part of it, and an empty one is none."""
    assert instructions("#  escape =  `  \nFROM x `\n y", "Dockerfile")[0].rest == "x  y"
    assert instructions("# escape =\nFROM x \\\n y", "Dockerfile")[0].rest == "x  y"
    with pytest.raises(InvalidInput, match="escape='a b'"):
        instructions("# escape = a b \nFROM x", "Dockerfile")


def test_of_a_long_path_the_first_folders_count() -> None:
    """Each is looked for in each layer of an image."""
    assert on_path("bin:/bin::/usr/bin") == ["/bin", "/usr/bin"]
    assert on_path(":".join(f"/{number}" for number in range(4000))) == [f"/{number}" for number in range(64)]
