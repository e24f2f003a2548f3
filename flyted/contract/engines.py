"""The engines that can sleep without ending, by name and command, for ``flytectl serve --idle sleep``. Pure.

Everything else that flyted knows about engines is in ``flyted/plan/engines``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from flyted.contract.fserve import program

Starts = tuple[tuple[str, ...], ...]
"""First words of a command, in several forms; one that begins with ``-m`` is a module that Python runs."""

VLLM_NAME = "vLLM"
SLEEPERS: dict[str, Starts] = {
    VLLM_NAME: (
        ("vllm-fserve", "serve"),
        ("vllm", "serve"),
        ("-m", "vllm.entrypoints.openai.api_server"),
        ("-m", "vllm.entrypoints.cli.main", "serve"),
    )
}
_PYTHON = re.compile(r"python(3(\.\d+)?)?")


def starts_with(words: Sequence[str], starts: Iterable[tuple[str, ...]]) -> bool:
    """Report whether a program with its arguments begins in one of these ways, in whatever folder the program is."""
    if not words:
        return False
    name, rest = posixpath.basename(words[0]), tuple(words[1:])
    unbuffered = rest[:1] == ("-u",)
    line = rest[unbuffered:] if _PYTHON.fullmatch(name) else (name, *rest)
    return any(line[: len(start)] == start for start in starts)


def can_sleep(command: Sequence[str]) -> bool:
    """Report whether the program of an app's command can sleep without ending."""
    return bool(command) and any(starts_with(program(command)[1], starts) for starts in SLEEPERS.values())
