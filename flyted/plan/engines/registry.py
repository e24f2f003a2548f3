"""Lists the engines that flyted supports. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flyted.plan.engines.base import Engine
from flyted.plan.engines.llama import LLAMA
from flyted.plan.engines.sglang import SGLANG
from flyted.plan.engines.vllm import VLLM

ENGINES: tuple[Engine, ...] = (VLLM, SGLANG, LLAMA)


def engine_of(words: Sequence[str]) -> Engine | None:
    """Return the engine that a program with its arguments starts, or ``None`` for any other program."""
    return next((engine for engine in ENGINES if engine.recognise(words)), None)


def engine_in(words: Sequence[str]) -> Engine | None:
    """Return the first engine that is started at any place of a line for a shell; ``None`` if there is none.

    At each place only the words that can tell are read, so the time is linear: a line has up to 32,000 words.
    """
    longest = 2 + max(len(start) for engine in ENGINES for start in engine.starts)  # with python -u before it
    return next((found for at in range(len(words)) if (found := engine_of(words[at : at + longest]))), None)


def package_of(script: str) -> str:
    """Return the package that brings an engine's console script; "" for any other name."""
    return next((engine.packages[script] for engine in ENGINES if script in engine.packages), "")


def needs_gpu(requirement: str) -> bool:
    """Report whether a requirement names an engine whose build in the package index runs on GPUs only."""
    return any(brings(requirement, engine) for engine in ENGINES)


def brings(requirement: str, engine: Engine) -> bool:
    """Report whether a requirement names the engine, and its build in the package index runs on GPUs only."""
    package = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()
    return bool(package) and package == engine.gpu_package
