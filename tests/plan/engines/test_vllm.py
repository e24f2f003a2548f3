"""What vLLM is given that a file leaves out, and nothing that the file says is changed."""

from __future__ import annotations

import pytest

from flyted.contract.names import Replica
from flyted.plan.units import app_units
from tests.plan.engines.commands import FSERVE, GIB, SGLANG_ARGS, VLLM_ARGS, VLLM_CPU, added, cpu_shape, shape
from tests.values import spec, told


def test_vllm_listens_on_the_loopback_unless_the_file_says_otherwise() -> None:
    """Its own default is every address, and the plug-in gives none; SGLang's gives one."""
    assert shape(*FSERVE, *VLLM_ARGS).command == (*FSERVE, *VLLM_ARGS, "--host", "127.0.0.1")
    for said in (("--host", "::"), ("--host=::",), ("--uds", "/tmp/s")):
        assert shape(*FSERVE, *VLLM_ARGS, *said).command == (*FSERVE, *VLLM_ARGS, *said)
    assert shape(*FSERVE, *SGLANG_ARGS).command == (*FSERVE, *SGLANG_ARGS)


def test_vllm_takes_a_share_of_the_apps_memory_and_compiles_nothing() -> None:
    """Else it takes nearly all of the machine's, whatever the app's limit."""
    assert added(*VLLM_CPU) == ("--enforce-eager", "--max-model-len", "auto")
    assert dict(cpu_shape(*VLLM_CPU).env)["VLLM_CPU_KVCACHE_SPACE"] == "5"
    assert dict(cpu_shape(*VLLM_CPU, memory_bytes=GIB).env)["VLLM_CPU_KVCACHE_SPACE"] == "1"


@pytest.mark.parametrize("word", ["-O3", "-O=2", "-cc.mode=3", "--compilation-config={}", "--no-enforce-eager"])
def test_a_file_that_speaks_of_compiling_is_left_to_it(word: str) -> None:
    """It knows that the machine has a compiler."""
    assert added(*VLLM_CPU, word) == ("--max-model-len", "auto")


@pytest.mark.parametrize("words", [("--gpu-memory-utilization", "0.3"), ("--kv-cache-memory-bytes=1G",)])
def test_a_file_that_speaks_of_memory_is_left_to_it(words: tuple[str, ...]) -> None:
    """Its share of the machine, or a size."""
    assert "VLLM_CPU_KVCACHE_SPACE" not in dict(cpu_shape(*VLLM_CPU, *words).env)
    assert added(*VLLM_CPU, "--max-model-len", "512") == ("--enforce-eager",)


def test_vllms_other_spelling_of_an_option_counts_as_well() -> None:
    """Of an option that is given twice it takes the last: what is added would win."""
    assert added(*VLLM_CPU, "--max_model_len", "512", "--enforce_eager") == ()
    assert "VLLM_CPU_KVCACHE_SPACE" not in dict(cpu_shape(*VLLM_CPU, "--gpu_memory_utilization=0.3").env)


def test_the_apps_own_variables_win() -> None:
    """The unit's are a default."""
    own = (("VLLM_CPU_KVCACHE_SPACE", "2"),)
    made = spec(command=VLLM_CPU, port=8080, env=own)
    environment, _ = told(app_units(made, Replica("a", 1), image_path="/i"))
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "2"
