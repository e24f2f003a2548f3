"""What an engine gets when its app has no GPU: plug-ins start it as on one, and what it takes then is the machine's.

vLLM takes 92 % of the *machine's* memory for its cache of keys and values, whatever the app's limit, and does not
start where less is free (vllm/v1/worker/cpu_worker.py), nor where a model's longest text does not fit into that cache.
It compiles the model at its first start, which takes minutes and a C++ compiler. SGLang does not look for a processor
unless a variable says so (sglang/srt/utils/common.py), fills most of the memory that is free, and keeps one processor
busy with asking for work. Pure.
"""

from __future__ import annotations

from collections.abc import Collection

_GIB = 1 << 30
_SHARE = 3  # the cache gets a third of the app's memory: the weights, and three processes, need the rest
_KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"
_VLLM_MEMORY = frozenset({"--kv-cache-memory-bytes", "--gpu-memory-utilization"})
_SGLANG_MEMORY = frozenset({"--mem-fraction-static", "--max-total-tokens"})
_VLLM_COMPILATION = frozenset(
    {"--enforce-eager", "--no-enforce-eager", "--compilation-config", "-cc", "-O", "--optimization-level"}
)


def vllm_words(options: Collection[str]) -> tuple[str, ...]:
    """More words for its command; ``options``: those that it has."""
    compiles = any(option in _VLLM_COMPILATION or option[:2] == "-O" or option[:4] == "-cc." for option in options)
    return (
        *(() if compiles else ("--enforce-eager",)),
        *(() if "--max-model-len" in options else ("--max-model-len", "auto")),
    )


def vllm_variables(options: Collection[str], memory_bytes: int) -> tuple[tuple[str, str], ...]:
    """Variables below the app's own. ``memory_bytes``: the app's limit."""
    if _VLLM_MEMORY & set(options):
        return ()
    return ((_KV_SPACE, str(max(1, memory_bytes // _SHARE // _GIB))),)


SGLANG_VARIABLES = (("SGLANG_USE_CPU_ENGINE", "1"),)


def sglang_words(options: Collection[str], memory_bytes: int, machine_bytes: int) -> tuple[str, ...]:
    """More words for its command. ``machine_bytes``: what it takes its share of; 0 if it is not known."""
    words = () if "--sleep-on-idle" in options else ("--sleep-on-idle",)
    if not machine_bytes or _SGLANG_MEMORY & set(options):
        return words
    return (*words, "--mem-fraction-static", f"{max(0.01, min(memory_bytes / machine_bytes, 1) / _SHARE):.3f}")
