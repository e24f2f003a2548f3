"""Runs the builder's command line in its unit, which passes the recipe as a credential, and the folder of all images."""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import bytecode, words
from .failed import Failed, say
from .image import build, build_isolated, remove
from .uv import Uv
from .words import EX_CONFIG, EX_IOERR


def main(argv: list[str]) -> int:
    """Build or remove images as ``argv`` says; return the exit status (``failed.py``)."""
    os.umask(0o022)
    return _status(lambda: _run(argv))


def _run(argv: list[str]) -> int:
    """Do what ``argv`` says. An image that cannot be removed is reported, and does not prevent the removal of others."""
    options = _options(argv)
    images = Path(_variable("STATE_DIRECTORY"))
    with tempfile.TemporaryDirectory(prefix="flyted-build-") as scratch:
        uv = Uv(options.uv, images, images / ".uv", Path(scratch), _secrets(options.secret))
        if options.image is not None and options.isolated:
            build_isolated(uv, _recipe(), images / options.image)
        elif options.image is not None:
            build(uv, _recipe(), images / options.image)
        removed = [_status(functools.partial(remove, images / each)) for each in options.remove]
        if options.prune:
            # --ci removes wheels too: without it every version of every package ever used would stay
            uv.run("the cache", "--quiet", "cache", "prune", "--ci")
            bytecode.prune(images / bytecode.STORE)
    return max(removed, default=0)


def _status(work: Callable[[], int | None]) -> int:
    """Do ``work`` and return its exit status; print why it failed."""
    try:
        return work() or 0
    except Failed as failure:
        say(str(failure))
        return failure.status
    except OSError as error:
        say(f"{error.filename or 'a file'}: {error.strerror}")
        return EX_IOERR


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="flyted-build", description="Builds and removes images.")
    parser.add_argument(words.UV, required=True, help="the uv program")
    parser.add_argument(words.IMAGE, type=_hash, help="build this image from the credential 'recipe'")
    parser.add_argument(
        words.ISOLATED, action="store_true", help="with --image: nothing but this image can be written"
    )
    parser.add_argument(
        words.SECRET,
        default=[],
        type=_credential,
        action="append",
        help="ID=NAME: uv gets this credential as a variable",
    )
    parser.add_argument(
        words.PRUNE, action="store_true", help="empty uv's cache, and delete compiled files that no image uses"
    )
    parser.add_argument(words.REMOVE, default=[], type=_hash, action="append", help="remove this image")
    return parser.parse_args(argv)


def _hash(text: str) -> str:
    if words.HASH.fullmatch(text) is None:
        raise argparse.ArgumentTypeError("an image is named by 32 hex digits")
    return text


def _credential(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"(b\d{1,3})=([A-Z_][A-Z0-9_]*)", text)
    if found is None:
        raise argparse.ArgumentTypeError("a secret is named by its credential and its variable")
    return found[1], found[2]


def _secrets(named: list[tuple[str, str]]) -> dict[str, str]:
    """Return the secrets' values by variable.

    Raises :class:`Failed` for one that is missing, empty or not text. systemd makes an empty credential of one that
    flyted refused.
    """
    values = {}
    for credential, variable in named:
        path = Path(_variable("CREDENTIALS_DIRECTORY")) / credential
        try:
            values[variable] = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Failed(EX_CONFIG, f"the secret for {variable} cannot be read: {error}") from None
        if not values[variable] or "\0" in values[variable]:
            raise Failed(EX_CONFIG, f"the secret for {variable} did not arrive; see journalctl -u flyted")
    return values


def _recipe() -> dict[str, Any]:
    path = Path(_variable("CREDENTIALS_DIRECTORY")) / words.RECIPE
    try:
        recipe = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Failed(EX_CONFIG, f"the recipe cannot be read: {error}") from error
    if not _is_recipe(recipe):
        raise Failed(EX_CONFIG, "the recipe has an unknown format")
    return dict(recipe)


def _is_recipe(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("format") != words.FORMAT:
        return False
    python, installs = value.get("python"), value.get("installs")
    if not isinstance(python, str) or re.fullmatch(r"3\.\d{1,2}", python) is None:
        return False
    return isinstance(installs, list) and all(
        isinstance(each, dict)
        and isinstance(each.get("source"), str)
        and _is_texts(each.get("requirements"))
        and _is_texts(each.get("options"))
        for each in installs
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value.startswith("/"):
        raise Failed(EX_CONFIG, f"{name} is not set: only units of flyted run this program")
    return value
