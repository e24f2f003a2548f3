"""llama-server: its key, its models, and no GPU."""

from __future__ import annotations

from flyted.plan.engines.models import model_names
from tests.plan.engines.commands import AUTH, FSERVE, KEY, LLAMA_ARGS, LLAMA_CPU, MODELS, added, shape
from tests.values import spec


def test_the_key_of_llama_server_is_no_argument() -> None:
    """It is a C++ program: what it gets as an argument, all users can read. It reads a variable as well."""
    found = shape(*FSERVE, *LLAMA_ARGS, *KEY, "--ctx-size", "512", secrets=AUTH)
    assert found.command == (*FSERVE, *LLAMA_ARGS, "--ctx-size", "512")
    assert (found.extra_secret_variables, found.has_key) == ((("AUTH_SECRET", "LLAMA_API_KEY"),), True)
    plain = shape(*FSERVE, *LLAMA_ARGS, "--api-key", "$MODE", env=(("MODE", "x"),))
    assert (plain.command[-2:], plain.extra_secret_variables) == (("--api-key", "$MODE"), ())


def test_llama_server_itself_takes_no_folder() -> None:
    """Only the plug-in's starter looks for the file in one."""
    words = ("llama-server", "--hf-repo", "ggml-org/tiny-GGUF:Q4")
    assert shape(*words, models=MODELS).command == words
    assert model_names(spec(command=words)) == frozenset()
    assert model_names(spec(command=("python", "serve.py", "--model", "Qwen/Qwen3-0.6B"))) == frozenset()


def test_llama_server_needs_nothing() -> None:
    """It was made for processors."""
    assert added(*LLAMA_CPU) == ()
