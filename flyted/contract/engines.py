"""Programs that serve language models, by their command; and which of them can sleep without ending. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from flyted.contract.errors import InvalidInput
from flyted.contract.fserve import program
from flyted.contract.names import shown

VLLM, SGLANG, LLAMA = "vLLM", "SGLang", "llama.cpp"
LEVELS = (1, 2)
"""Of vLLM's sleep mode: 1 keeps the weights in memory, 2 keeps nothing and reads them again."""
OPENABLE = (
    "/v1", "/v2", "/inference", "/cohere", "/health", "/metrics", "/version", "/ping", "/load", "/docs", "/redoc",
    "/openapi.json", "/invocations", "/tokenize", "/detokenize", "/pooling", "/classify", "/score", "/rerank",
)  # fmt: skip
"""vLLM's paths that are there without its development mode: all that may be open while that is on."""

MOVED_BY = ("--root-path", "--ssl-keyfile", "--uds")
"""Options of vLLM after which its paths lie elsewhere, or are not plain HTTP on its port."""

_LLAMA_BUILDS = re.compile(r"(?<=^llama-server)-(cpu|cuda|rocm|vulkan)$")  # as packages of PyPI name theirs
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_STARTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("vllm-fserve", "serve"), VLLM),
    (("vllm", "serve"), VLLM),
    (("-m", "vllm.entrypoints.openai.api_server"), VLLM),
    (("-m", "vllm.entrypoints.cli.main", "serve"), VLLM),
    (("sglang-fserve",), SGLANG),
    (("sglang", "serve"), SGLANG),
    (("-m", "sglang.launch_server"), SGLANG),
    (("llama-cpp-fserve",), LLAMA),
    (("llama-server",), LLAMA),
)


def engine_of(words: Sequence[str]) -> str:
    """Which engine a program with its arguments is; "" for any other."""
    if not words:
        return ""
    name = _LLAMA_BUILDS.sub("", posixpath.basename(words[0]))
    rest = list(words[1:])
    unbuffered = rest[:1] == ["-u"]
    start = rest[unbuffered:] if _PYTHON.fullmatch(name) else [name, *rest]
    return next((engine for begin, engine in _STARTS if tuple(start[: len(begin)]) == begin), "")


def options_of(words: Iterable[str]) -> frozenset[str]:
    """The options among the words, of ``--host X`` and ``--host=X``; vLLM takes ``_`` for ``-``."""
    return frozenset(word.partition("=")[0].replace("_", "-") for word in words)


def given(words: Iterable[str], *options: str) -> bool:
    """Whether one of the options is among the words."""
    return not options_of(words).isdisjoint(options)


def can_sleep(command: Sequence[str]) -> bool:
    """Whether the program of this command can sleep and stay: vLLM alone."""
    return bool(command) and engine_of(program(command)[1]) == VLLM


def check_sleep(
    app: str, level: int, command: Sequence[str], *, port: int, min_replicas: int, open_paths: Iterable[str]
) -> None:
    """Raises :class:`InvalidInput` for an app that cannot sleep so, or that would let others put it to sleep."""
    if level not in LEVELS:
        raise InvalidInput(f"app '{app}': vLLM has no sleep level {level}", hint="--idle sleep, or --idle sleep:2")
    words = program(command)[1]
    if engine_of(words) != VLLM or not port:
        what = f"it runs {engine_of(words)}" if engine_of(words) else "it does not"
        raise InvalidInput(
            f"app '{app}': --idle sleep is for apps that run vLLM ({what})", hint="without it, an idle app is stopped"
        )
    if min_replicas:
        raise InvalidInput(
            f"app '{app}' has replicas=(1, 1): it never is idle, so --idle changes nothing", hint="use replicas=(0, 1)"
        )
    elsewhere = [option for option in MOVED_BY if given(words, option)]
    if elsewhere:
        raise InvalidInput(
            f"app '{app}': with {elsewhere[0]} vLLM cannot be put to sleep: it is asked by plain HTTP on its port",
            hint=f"remove {elsewhere[0]}: the ingress has name and certificate",
        )
    closed = [path for path in open_paths if not any(f"{path}/".startswith(f"{each}/") for each in OPENABLE)]
    if closed:
        raise InvalidInput(
            f"app '{app}': --open-path {shown(closed[0])} cannot go with --idle sleep: vLLM then has endpoints that "
            "no key guards, to run code among them",
            hint=f"what can be opened: {', '.join(OPENABLE)}",
        )
