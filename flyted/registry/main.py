"""Runs the registry client as a program: reads its options, environment and logins, and ends with a status."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import NoReturn

from . import logins, url, words
from .failed import Failed, printable, say
from .mirrors import check
from .pull import Pull
from .reach import Reach
from .reference import parse, registry
from .store import Store
from .words import EX_CONFIG, EX_IOERR, EX_SOFTWARE

_PLATFORM = re.compile(r"linux/[a-z0-9_]{1,32}")


def main(argv: list[str]) -> int:
    """Pull or resolve one image, or check the mirrors, and return the exit status."""
    try:
        options = _options(argv)
        if options.check_mirrors:
            check(Reach(dict(options.mirror), timeout_s=words.CHECK_S / 2))
            return 0
        pull = Pull(
            options.pull, options.platform, Store(_store()), Reach(dict(options.mirror)), _logins(),
            most_bytes=options.most_bytes,
        )  # fmt: skip
        digest = pull.resolve() if options.resolve_only else pull.pull()
    except Failed as failure:
        say(str(failure))
        return failure.status
    except OSError as error:
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return EX_IOERR
    except Exception as error:  # noqa: BLE001 - a fault of ours, or a case that nobody thought of
        say(f"internal error in flyted: {type(error).__name__}: {printable(str(error))}")
        return EX_SOFTWARE
    say(f"{options.pull} is {options.pull.name}@{digest}")
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Failed(EX_CONFIG, message)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="flyted-pull", add_help=False, allow_abbrev=False)
    to_pull = words.CHECK not in argv
    parser.add_argument(words.CHECK, action="store_true")
    parser.add_argument(words.PULL, required=to_pull, type=parse)
    parser.add_argument(words.PLATFORM, required=to_pull, type=_platform)
    parser.add_argument(words.RESOLVE_ONLY, action="store_true")
    parser.add_argument(words.MIRROR, action="append", default=[], type=_mirror)
    parser.add_argument(words.MOST_BYTES, type=int, default=Pull.most_bytes)
    return parser.parse_args(argv)


def _platform(text: str) -> str:
    if _PLATFORM.fullmatch(text) is None:
        raise ValueError(text)
    return text


def _mirror(text: str) -> tuple[str, url.Url]:
    name, _, address = text.partition("=")
    return registry(name), url.parse(address)


def _store() -> Path:
    folder = os.environ.get("STATE_DIRECTORY", "")
    if not folder.startswith("/"):
        raise Failed(EX_CONFIG, "STATE_DIRECTORY is not set: only units of flyted run this program")
    return Path(folder)


def _logins() -> dict[str, logins.Login]:
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    file = Path(folder) / words.AUTH
    if not folder or not file.exists():
        return {}
    return logins.read(file.read_bytes())
