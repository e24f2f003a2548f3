"""Models of this machine in place of the names that a command has."""

from __future__ import annotations

import json
import shlex

import pytest

from flyted.plan.engines.models import model_names, model_paths
from tests.plan.engines.commands import FSERVE, KEY, LLAMA_ARGS, MODELS, SGLANG_ARGS, VLLM_ARGS, shape, with_parameters
from tests.values import spec

HF = (*LLAMA_ARGS[:1], "--hf-repo", "ggml-org/tiny-GGUF:Q4", *LLAMA_ARGS[3:])
MOUNT, DRAFT = "/tmp/flyte/model", "/tmp/flyte/draft-model"


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        (VLLM_ARGS, {2: "/srv/qwen"}),
        (("vllm", "serve", "--model=Qwen/Qwen3-0.6B"), {2: "--model=/srv/qwen"}),
        (SGLANG_ARGS, {2: "/srv/qwen"}),
        (HF, {1: "--model-dir", 2: "/srv/gguf"}),
    ],
)
def test_a_model_of_this_machine_is_read_from_its_folder(command: tuple[str, ...], changed: dict[int, str]) -> None:
    """The folder in place of the hub's name, and of nothing else; and no hub is asked."""
    found = shape(*FSERVE, *command, models=MODELS)
    program = list(found.command[len(FSERVE) :][: len(command)])
    assert program == [changed.get(at, word) for at, word in enumerate(command)]
    assert dict(found.env)["HF_HUB_OFFLINE"] == "1"
    assert model_names(spec(command=(*FSERVE, *command))) <= dict(MODELS).keys()
    plain = shape(*FSERVE, *command)
    assert plain.command[len(FSERVE) :][: len(command)] == command
    assert "HF_HUB_OFFLINE" not in dict(plain.env)


def test_a_folder_given_as_model_path_is_read_where_it_lies() -> None:
    """Neither streamed, which the plug-in cannot do from a folder, nor copied: its loader is not told of it."""
    streamed = (*VLLM_ARGS[:2], MOUNT, *VLLM_ARGS[3:7], "--load-format", "flyte-vllm-streaming", *KEY)
    command = with_parameters(*streamed, model_path="/srv/m")
    assert model_paths(spec(command=command)) == {"/srv/m"}
    found = shape(*command, models=(("/srv/m", "/srv/real"),))
    assert found.command == (
        *FSERVE, *VLLM_ARGS[:2], "/srv/real", *VLLM_ARGS[3:7], *KEY, "--host", "127.0.0.1",
    )  # fmt: skip
    assert dict(found.env)["HF_HUB_OFFLINE"] == "1"


def test_a_draft_model_in_json_too() -> None:
    """vLLM has it in --speculative-config."""
    config = f"'{json.dumps({'model': DRAFT, 'method': 'eagle3'})}'"
    command = with_parameters(
        "vllm-fserve", "serve", MOUNT, "--speculative-config", config, model_path="/m", draft_model_path="/d"
    )
    words = shape(*command, models=(("/m", "/srv/m"), ("/d", "/srv/d"))).command
    assert words[len(FSERVE) :][2] == "/srv/m"
    assert json.loads(shlex.split(words[-3])[0]) == {"model": "/srv/d", "method": "eagle3"}


def test_what_is_not_of_this_machine_is_left_to_the_plugin() -> None:
    """A bucket, one of two, and parameters of an app that is no plug-in's."""
    bucket = with_parameters("vllm-fserve", "serve", MOUNT, model_path="s3://bucket/m")
    half = with_parameters("sglang-fserve", "--model-path", MOUNT, model_path="/m", draft_model_path="s3://b/d")
    for command in (bucket, half):
        assert MOUNT in shape(*command, models=(("/m", "/srv/m"),)).command
        assert "--parameters" in shape(*command, models=(("/m", "/srv/m"),)).command
    other = with_parameters("vllm", "serve", MOUNT, model_path="/m")
    assert model_paths(spec(command=other)) == frozenset()
    assert shape(*other, models=(("/m", "/srv/m"),)).command[: len(other)] == other
    assert model_paths(spec(command=with_parameters("vllm-fserve", "serve", MOUNT, greeting="/x"))) == frozenset()


def test_a_hub_is_asked_for_what_is_not_here() -> None:
    """One model of two; a model in vLLM's JSON; and another tag is another model."""
    draft = shape(*FSERVE, *SGLANG_ARGS, "--speculative-draft-model-path", "Qwen/Draft", models=MODELS)
    assert "/srv/qwen" in draft.command
    assert "HF_HUB_OFFLINE" not in dict(draft.env)
    config = shape(*FSERVE, *VLLM_ARGS, "--speculative-config", '{"model": "x"}', models=MODELS)
    assert "HF_HUB_OFFLINE" not in dict(config.env)
    other = shape(*FSERVE, "llama-cpp-fserve", "--hf-repo", "ggml-org/tiny-GGUF:Q8", models=MODELS)
    assert other.command[-2:] == ("--hf-repo", "ggml-org/tiny-GGUF:Q8")
