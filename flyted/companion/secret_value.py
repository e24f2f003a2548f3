"""``flyte create secret NAME VALUE``: the value as the second word, as Flyte's documentation writes it.

The SDK takes a value as ``--value`` only. What the SDK understands by itself goes to it untouched.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any

import click

from .aside import around, step_aside

_SOURCES = frozenset({"--value", "--from-file", "--from-docker-config", "--registry", "--help"})
"""With one of these the value comes from elsewhere."""
_TYPO = 0.8
"""How near to an option a word may be (difflib) before it is a mistyped option and no value."""


def install(create: Any) -> None:
    """Teaches the group ``create`` the second word of ``secret``."""
    secret = create.get_command(click.Context(create), "secret")
    if secret is None:
        raise AttributeError("flyte create has no secret")

    def make(old: Callable[..., Any]) -> Callable[..., Any]:
        def parse_args(ctx: click.Context, args: list[str]) -> Any:
            words = list(args)
            try:
                words = rewritten(words, secret.params)
            except Exception as error:  # noqa: BLE001  the SDK's own answer then
                step_aside(error)
            return old(ctx, words)

        return parse_args

    around(secret, "parse_args", make)


def rewritten(words: list[str], params: list[click.Parameter]) -> list[str]:
    """``NAME VALUE`` and options → options, ``--value=VALUE`` and ``NAME``; anything else as it came."""
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
    """The command line in its parts: ("option", WORD[, ITS VALUE]), ("word", WORD) or ("unknown", WORD)."""
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
    """What a word is: "word", "option" (a whole one), "value follows" (an option without it), or "unknown"."""
    if not word.startswith("-") or word == "-":
        return "word"
    stem, equals, _ = word.partition("=")
    if stem in flags and (stem.startswith("--") or not equals):
        return "option" if equals or flags[stem] else "value follows"
    if word[:2] in flags and not word.startswith("--"):
        return "option"  # -pVALUE
    # no option of the SDK's: after the name it is the value, unless somebody mistyped an option
    mistyped = word.startswith("--") and difflib.get_close_matches(stem, list(flags), 1, _TYPO)
    return "word" if named and not mistyped else "unknown"
