"""Makes ``flyte create secret NAME VALUE`` take the value as the second word, as Flyte's documentation writes it.

The SDK takes a value only as ``--value``. A command line that the SDK understands by itself goes to it unchanged.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any

import click

from .aside import around, step_aside

_SOURCES = frozenset({"--value", "--from-file", "--from-docker-config", "--registry", "--help"})
"""Options that say where the value comes from, or that ask for help: with one of them no word is the value."""
_TYPO = 0.8
"""Similarity to an option (difflib) from which on a word counts as a mistyped option, not as the value."""


def install(create: Any) -> None:
    """Make ``secret``, of the group ``create``, accept a second word. Raise AttributeError without that command."""
    secret = create.get_command(click.Context(create), "secret")
    if secret is None:
        raise AttributeError("flyte create has no secret")

    def make(old: Callable[..., Any]) -> Callable[..., Any]:
        def parse_args(ctx: click.Context, args: list[str]) -> Any:
            words = list(args)
            try:
                words = rewritten(words, secret.params)
            except Exception as error:  # noqa: BLE001  then the SDK answers by itself
                step_aside(error)
            return old(ctx, words)

        return parse_args

    around(secret, "parse_args", make)


def rewritten(words: list[str], params: list[click.Parameter]) -> list[str]:
    """Return the options and ``--value=VALUE -- NAME`` for ``NAME VALUE`` with options; any other words unchanged.

    ``params`` are the command's own.
    """
    options: list[list[str]] = []
    others: list[str] = []
    for kind, *group in _split(words, params):
        if kind == "unknown":
            return words
        if kind == "option":
            options.append(group)
        else:
            others += group
    said = {option.partition("=")[0] for option, *_ in options}
    if len(others) != 2 or said & _SOURCES or _value_of("--type", options) == "image_pull":
        return words
    name, value = others
    return [*(word for group in options for word in group), f"--value={value}", "--", name]


def _value_of(option: str, options: list[list[str]]) -> str:
    found = ""
    for first, *rest in options:
        word, equals, value = first.partition("=")
        if word == option:
            found = value if equals else (rest or [""])[0]
    return found


def _split(words: list[str], params: list[click.Parameter]) -> Iterator[tuple[str, ...]]:
    """Yield the parts of a command line: ("option", WORD[, ITS VALUE]), ("word", WORD) or ("unknown", WORD)."""
    flags = {o: bool(getattr(p, "is_flag", False)) for p in params if p.param_type_name == "option" for o in p.opts}
    flags["--help"] = True
    named = False
    rest = iter(words)
    for word in rest:
        if word == "--":
            yield from (("word", each) for each in rest)
            return
        kind = _kind(word, flags, named=named)
        takes = [value for value in [next(rest, None)] if value is not None] if kind == "value follows" else []
        named = named or kind == "word"
        yield ("option" if kind == "value follows" else kind, word, *takes)


def _kind(word: str, flags: dict[str, bool], *, named: bool) -> str:
    """Return the kind of a word: "word", "option" (complete), "value follows" (option without it) or "unknown"."""
    if not word.startswith("-") or word == "-":
        return "word"
    stem, equals, _ = word.partition("=")
    if stem in flags and (stem.startswith("--") or not equals):
        return "option" if equals or flags[stem] else "value follows"
    if word[:2] in flags and not word.startswith("--"):
        return "option"  # -pVALUE
    # not an option of the SDK: after the name it is the value, unless it looks like a mistyped option
    mistyped = word.startswith("--") and difflib.get_close_matches(stem, list(flags), 1, _TYPO)
    return "word" if named and not mistyped else "unknown"
