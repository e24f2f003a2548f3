"""vLLM: Flyte's plug-in, ``vllm serve``, and its modules. Pure.

Sources: flyteplugins/vllm 2.12.1, _app_environment.py; vLLM 0.32, entrypoints/openai/server_utils.py
(AuthenticationMiddleware), docs/features/sleep_mode.md, v1/worker/cpu_worker.py, v1/core/kv_cache_utils.py.

Without a GPU it takes 92 % of the *machine's* memory for its cache of keys and values, whatever the app's limit. It
does not start if less is free, or if a model's longest text does not fit into that cache. It compiles the model at its
first start, which takes minutes and needs a C++ compiler. What flyted adds for such an app prevents all three.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from flyted.contract.engines import SLEEPERS, VLLM_NAME
from flyted.plan.engines.base import CACHE_SHARE, Engine, ModelArgument, SleepMode, Variables, torch_caches
from flyted.plan.engines.failures import NO_ROOM_FOR_TEXT, SIZES, SMALLER, Failure
from flyted.plan.engines.options import has_option, options_of

_GIB = 1 << 30
_KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"
_MOVED_BY = ("--root-path", "--ssl-keyfile", "--uds")
_MEMORY = frozenset({"--kv-cache-memory-bytes", "--gpu-memory-utilization"})
_COMPILATION = frozenset(
    {"--enforce-eager", "--no-enforce-eager", "--compilation-config", "-cc", "-O", "--optimization-level"}
)
OPENABLE = (
    "/v1", "/v2", "/inference", "/cohere", "/health", "/metrics", "/version", "/ping", "/load", "/docs", "/redoc",
    "/openapi.json", "/invocations", "/tokenize", "/detokenize", "/pooling", "/classify", "/score", "/rerank",
)  # fmt: skip
"""The paths that exist without vLLM's development mode: the only ones that may be open while that mode is on."""

_FAILURES = (
    Failure(
        re.compile(rf"Free memory on device (?P<device>\S+) {SIZES} on startup.*\([\d.]+, (?P<asked>[\d.]+) GiB\)"),
        "the GPU has {free} of {total} GiB free, and it wants {asked} GiB at its start: " + SMALLER,
    ),
    Failure(
        re.compile(rf"Available memory on node \S+ {SIZES} on.*\((?:[\d.]+, |[\d.]+/)?(?P<asked>[\d.]+) GiB\)"),
        "the machine has {free} of {total} GiB of memory free, and it wants {asked} GiB: "
        f"ask for less memory in the app's resources, or set {_KV_SPACE} (GiB)",
    ),
    Failure(
        re.compile(r"max seq len \((?P<length>\d+)\), \((?P<needed>[\d.]+) GiB .*memory \((?P<there>[\d.]+) GiB\)"),
        "a text of {length} tokens, the model's longest, takes {needed} GiB, and {there} GiB are left for texts: "
        "set --max-model-len auto, or give it more memory",
    ),
    Failure(re.compile(r"No available memory for the cache bl|Cannot auto-fit max_model_len"), NO_ROOM_FOR_TEXT),
)


class _Vllm(Engine):
    def models(self, words: Sequence[str]) -> list[ModelArgument]:
        """Find the model after ``serve``, too."""
        named = [
            ModelArgument(at, word)
            for at, word in enumerate(words)
            if at and words[at - 1] == "serve" and not word.startswith("-")
        ]
        return [*named, *super().models(words)]

    def defaults(self, words: Sequence[str]) -> tuple[str, ...]:
        """Bind it to the loopback: its own default is 0.0.0.0, and the plug-in names no host."""
        return () if has_option(words, "--host", "--uds") else ("--host", "127.0.0.1")

    def environment(self, cache: str) -> Variables:
        """Add the caches of its kernels, and turn off its reports of usage."""
        own = (("VLLM_CACHE_ROOT", f"{cache}/vllm"), ("VLLM_NO_USAGE_STATS", "1"))
        return (*super().environment(cache), *torch_caches(cache), *own)

    def without_gpu(
        self, words: Sequence[str], memory_bytes: int, machine_bytes: int
    ) -> tuple[tuple[str, ...], Variables]:
        """Limit its cache by the app's memory, and turn compilation off."""
        del machine_bytes
        options = options_of(words)
        added = (
            *(() if _compiles(options) else ("--enforce-eager",)),
            *(() if "--max-model-len" in options else ("--max-model-len", "auto")),
        )
        space = str(max(1, memory_bytes // CACHE_SHARE // _GIB))
        return added, () if _MEMORY & options else ((_KV_SPACE, space),)


def _compiles(options: Iterable[str]) -> bool:
    return any(option in _COMPILATION or option[:2] == "-O" or option[:4] == "-cc." for option in options)


VLLM = _Vllm(
    name=VLLM_NAME,
    starts=SLEEPERS[VLLM_NAME],
    guarded=("/v1", "/v2", "/inference", "/cohere"),
    key_options=("--api-key",),
    key_variables=("VLLM_API_KEY",),
    model_options={"--model": "--model", "--tokenizer": "--tokenizer"},
    moved_by=_MOVED_BY,
    plugin="vllm-fserve",
    streaming=("--load-format", "flyte-vllm-streaming"),
    packages={"vllm-fserve": "flyteplugins-vllm", "vllm": "vllm"},
    gpu_package="vllm",
    failures=_FAILURES,
    sleep=SleepMode(
        levels=(1, 2),  # 1 keeps the weights in memory, 2 keeps nothing and reads them again
        option="--enable-sleep-mode",  # without a GPU it refuses the option; the endpoints exist all the same
        variables=(("VLLM_SERVER_DEV_MODE", "1"),),
        openable=OPENABLE,
        blocked_by=_MOVED_BY,
    ),
)
