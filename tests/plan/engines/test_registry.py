"""Engines are recognised by their command, and the next one is one file."""

from __future__ import annotations

import pytest

from flyted.plan.engines.base import Engine
from flyted.plan.engines.llama import LLAMA
from flyted.plan.engines.sglang import SGLANG
from flyted.plan.engines.shape import program_of, shape_of
from flyted.plan.engines.vllm import VLLM
from tests.plan.engines.commands import FSERVE, LLAMA_ARGS, SGLANG_ARGS, VLLM_ARGS, shape
from tests.plan.stored import spec


@pytest.mark.parametrize(
    ("command", "engine"),
    [
        ((*FSERVE, *VLLM_ARGS), VLLM),
        (("vllm", "serve", "m"), VLLM),
        (("/opt/env/bin/vllm", "serve", "m"), VLLM),
        ((*FSERVE, "python", "-m", "vllm.entrypoints.openai.api_server", "--model", "m"), VLLM),
        (("python3.12", "-u", "-m", "vllm.entrypoints.cli.main", "serve", "m"), VLLM),
        ((*FSERVE, *SGLANG_ARGS), SGLANG),
        (("python", "-m", "sglang.launch_server", "--model-path", "m"), SGLANG),
        ((*FSERVE, *LLAMA_ARGS), LLAMA),
        (("/usr/local/bin/llama-server", "-m", "m.gguf"), LLAMA),
        (("llama-server-vulkan", "-m", "m.gguf"), LLAMA),
    ],
)
def test_an_engine_is_recognised_by_its_command(command: tuple[str, ...], engine: Engine) -> None:
    """Of a plug-in, of the engine itself, and as a module."""
    assert shape(*command).engine is engine


@pytest.mark.parametrize(
    "command",
    [
        FSERVE,
        (*FSERVE, "vllm-fserve", "bench"),
        ("vllm", "chat"),
        ("python", "serve.py"),
        ("python", "-m", "vllm_like"),
        ("echo", "vllm", "serve"),
        ("my-llama-server",),
        ("llama-server-manager",),
    ],
)
def test_other_programs_are_left_alone(command: tuple[str, ...]) -> None:
    """Also one that only names an engine."""
    assert shape_of(spec(command=command)) is None


def test_the_program_that_an_environment_must_have() -> None:
    """The plug-in's or the engine's own console script; a module is looked for by Python."""
    assert program_of(spec(command=(*FSERVE, *VLLM_ARGS))) == ("vllm-fserve", "flyteplugins-vllm")
    assert program_of(spec(command=("sglang", "serve", "m"))) == ("sglang", "sglang")
    assert program_of(spec(command=("python", "-m", "sglang.launch_server"))) == ("", "")
