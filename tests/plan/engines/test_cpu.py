"""An engine whose app has no GPU: what is added to its command, and what the file said stays."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.names import Replica
from flyted.plan.engines.shape import Shape, shape_of
from flyted.plan.units import app_units
from tests.plan.stored import spec, told

GIB = 1 << 30
VLLM = ("vllm", "serve", "m", "--host", "127.0.0.1")
SGLANG = ("sglang-fserve", "--model-path", "m")
LLAMA = ("llama-server", "-m", "m.gguf")


def shape(*command: str, machine: int = 24 * GIB, **changes: Any) -> Shape:
    """The shape of an app with 16 GiB on a machine of 24."""
    found = shape_of(spec(command=command, port=8080, **{"memory_bytes": 16 * GIB, **changes}), "/c", machine)
    assert found is not None
    return found


def added(*command: str, **changes: Any) -> tuple[str, ...]:
    """The words that were put behind the command."""
    found = shape(*command, **changes).command
    assert found[: len(command)] == command
    return found[len(command) :]


def test_with_a_gpu_nothing_is_added() -> None:
    """The plug-ins and their engines were made for that."""
    for command in (VLLM, SGLANG, LLAMA):
        assert added(*command, gpu_count=1) == ()
        names = dict(shape(*command, gpu_count=1).env)
        assert not names.keys() & {"VLLM_CPU_KVCACHE_SPACE", "SGLANG_USE_CPU_ENGINE"}


def test_vllm_takes_a_share_of_the_apps_memory_and_compiles_nothing() -> None:
    """Else it takes nearly all of the machine's, whatever the app's limit."""
    assert added(*VLLM) == ("--enforce-eager", "--max-model-len", "auto")
    assert dict(shape(*VLLM).env)["VLLM_CPU_KVCACHE_SPACE"] == "5"
    assert dict(shape(*VLLM, memory_bytes=GIB).env)["VLLM_CPU_KVCACHE_SPACE"] == "1"


@pytest.mark.parametrize("word", ["-O3", "-O=2", "-cc.mode=3", "--compilation-config={}", "--no-enforce-eager"])
def test_a_file_that_speaks_of_compiling_is_left_to_it(word: str) -> None:
    """It knows that the machine has a compiler."""
    assert added(*VLLM, word) == ("--max-model-len", "auto")


@pytest.mark.parametrize("words", [("--gpu-memory-utilization", "0.3"), ("--kv-cache-memory-bytes=1G",)])
def test_a_file_that_speaks_of_memory_is_left_to_it(words: tuple[str, ...]) -> None:
    """Its share of the machine, or a size."""
    assert "VLLM_CPU_KVCACHE_SPACE" not in dict(shape(*VLLM, *words).env)
    assert added(*VLLM, "--max-model-len", "512") == ("--enforce-eager",)


def test_vllms_other_spelling_of_an_option_counts_as_well() -> None:
    """Of an option that is given twice it takes the last: what is added would win."""
    assert added(*VLLM, "--max_model_len", "512", "--enforce_eager") == ()
    assert "VLLM_CPU_KVCACHE_SPACE" not in dict(shape(*VLLM, "--gpu_memory_utilization=0.3").env)


def test_sglang_is_told_that_it_has_a_processor_and_how_much_memory() -> None:
    """16 GiB of 24, a third of that; of an app that may have all of the machine, a third of it."""
    assert dict(shape(*SGLANG).env)["SGLANG_USE_CPU_ENGINE"] == "1"
    assert added(*SGLANG) == ("--sleep-on-idle", "--mem-fraction-static", "0.222")
    assert added(*SGLANG, memory_bytes=64 * GIB)[-1] == "0.333"
    assert added(*SGLANG, machine=0) == ("--sleep-on-idle",)
    assert added(*SGLANG, "--sleep-on-idle", "--max-total-tokens", "2048") == ()


def test_llama_server_needs_nothing() -> None:
    """It was made for processors."""
    assert added(*LLAMA) == ()


def test_the_apps_own_variables_win() -> None:
    """The unit's are a default."""
    own = (("VLLM_CPU_KVCACHE_SPACE", "2"),)
    made = spec(command=VLLM, port=8080, env=own)
    environment, _ = told(app_units(made, Replica("a", 1), image_path="/i"))
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "2"
