"""llama.cpp's llama-server, and Flyte's plug-in for it. Pure.

Sources: flyteplugins/llamacpp 2.12.1; llama.cpp, tools/server/README.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from flyted.plan.engines.base import Engine, ModelArgument, Variables

_PLUGIN = "llama-cpp-fserve"
_KEY = "LLAMA_API_KEY"
_VARIABLE = re.compile(r'"?\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?"?')
_BUILDS = ("", "-cpu", "-cuda", "-rocm", "-vulkan")  # as packages on PyPI name their builds


class _Llama(Engine):
    def models(self, words: Sequence[str]) -> list[ModelArgument]:
        """Find the models of the plug-in's starter only: llama-server itself takes no folder."""
        return super().models(words) if words[0] == self.plugin else []

    def key(self, words: list[str], secrets: Collection[str]) -> tuple[list[str], Variables]:
        """Take ``--api-key $SECRET`` out: llama-server is no Python program, so every user can read its arguments."""
        for at, word in enumerate(words):
            option, joined, value = word.partition("=")
            if option != "--api-key":
                continue
            value = value if joined else next(iter(words[at + 1 : at + 2]), "")
            name = _VARIABLE.fullmatch(value)
            if name is not None and name[1] in secrets:
                rest = [*words[:at], *words[at + (1 if joined else 2) :]]
                return rest, () if name[1] == _KEY else ((name[1], _KEY),)
        return words, ()

    def environment(self, cache: str) -> Variables:
        """Add the folder in which it caches models."""
        return (*super().environment(cache), ("LLAMA_CACHE", f"{cache}/llama.cpp"))


LLAMA = _Llama(
    name="llama.cpp",
    starts=((_PLUGIN,), *((f"llama-server{build}",) for build in _BUILDS)),
    guarded=(
        "/v1", "/completion", "/completions", "/chat/completions", "/embedding", "/embeddings", "/infill", "/rerank",
        "/reranking", "/tokenize", "/detokenize", "/apply-template", "/props", "/slots", "/metrics", "/lora-adapters",
    ),
    key_options=("--api-key", "--api-key-file"),
    key_variables=(_KEY,),
    model_options={"--hf-repo": "--model-dir", "--hf-repo-draft": "--draft-model-dir"},
    moved_by=("--api-prefix", "--ssl-key-file"),
    plugin=_PLUGIN,
    packages={_PLUGIN: "flyteplugins-llamacpp"},
)  # fmt: skip
