"""SGLang: Flyte's plug-in, ``sglang serve``, and its module. Pure.

Sources: flyteplugins/sglang 2.12.1, _app_environment.py; SGLang 0.5.23, srt/utils (add_api_key_middleware),
srt/utils/common.py, srt/model_executor.

Without a GPU it does not use the processor unless a variable says so, fills most of the free memory, and keeps one
processor busy with polling for work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from flyted.contract.app import AppSpec
from flyted.contract.errors import Unsupported
from flyted.plan.engines.base import CACHE_SHARE, Engine, Variables, torch_caches
from flyted.plan.engines.failures import NO_ROOM_FOR_TEXT, Failure
from flyted.plan.engines.options import has_option, options_of

_ROUTER = "sglang_router"
_MEMORY = frozenset({"--mem-fraction-static", "--max-total-tokens"})
_KEY_OPTIONS = ("--api-key", "--admin-api-key")


class _Sglang(Engine):
    def environment(self, cache: str) -> Variables:
        """Add the caches of its kernels."""
        return (*super().environment(cache), *torch_caches(cache))

    def without_gpu(
        self, words: Sequence[str], memory_bytes: int, machine_bytes: int
    ) -> tuple[tuple[str, ...], Variables]:
        """Turn its engine for processors on, and limit it to the app's share of the machine's memory."""
        options = options_of(words)
        variables = (("SGLANG_USE_CPU_ENGINE", "1"),)
        added = () if "--sleep-on-idle" in options else ("--sleep-on-idle",)
        if not machine_bytes or _MEMORY & options:
            return added, variables
        share = max(0.01, min(memory_bytes / machine_bytes, 1) / CACHE_SHARE)
        return (*added, "--mem-fraction-static", f"{share:.3f}"), variables

    def check(self, spec: AppSpec, words: Sequence[str]) -> None:
        """Raise :class:`Unsupported` for SGLang's router if its own key would be the only protection.

        The router is a program of its own, with workers that have ports of their own. Which of its paths the key
        protects is not known, so it would be served with all of them open.
        """
        router = any(word.partition(".")[0] == _ROUTER for word in words[:4])
        if router and not spec.requires_auth and has_option(words, *_KEY_OPTIONS):
            raise Unsupported(
                f"app '{spec.key}': SGLang's router (router=True) with a key of its own is not supported: "
                "flyted cannot tell which of its paths that key protects",
                hint="remove router=True, or let the ingress ask for a token: requires_auth=True",
            )


SGLANG = _Sglang(
    name="SGLang",
    starts=(("sglang-fserve",), ("sglang", "serve"), ("-m", "sglang.launch_server")),
    guarded=("/v1", "/generate", "/encode", "/classify", "/model_info", "/get_model_info"),
    key_options=_KEY_OPTIONS,
    model_options={
        option: option for option in ("--model-path", "--model", "--tokenizer-path", "--speculative-draft-model-path")
    },
    moved_by=("--ssl-keyfile",),
    plugin="sglang-fserve",
    packages={"sglang-fserve": "flyteplugins-sglang", "sglang": "sglang"},
    gpu_package="sglang",
    failures=(Failure(re.compile(r"Not enough memory\. Please"), NO_ROOM_FOR_TEXT),),
)
