"""Engines are recognised by their command, and the next one is one file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import pytest

from flyted.contract.answers.events import LogLine
from flyted.contract.app import AppSpec
from flyted.contract.engines import SLEEPERS
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import Replica
from flyted.launch.expand import expand
from flyted.plan import arguments
from flyted.plan.engines import registry
from flyted.plan.engines.base import Engine
from flyted.plan.engines.check import check
from flyted.plan.engines.failures import Failure, engine_failure
from flyted.plan.engines.llama import LLAMA
from flyted.plan.engines.models import model_names
from flyted.plan.engines.options import has_option
from flyted.plan.engines.sglang import SGLANG
from flyted.plan.engines.shape import open_paths, program_of, shape_of
from flyted.plan.engines.vllm import VLLM
from flyted.plan.notes import notes
from flyted.plan.units import app_units
from tests.plan.engines.commands import AUTH, FSERVE, GIB, LLAMA_ARGS, MODELS, SGLANG_ARGS, VLLM_ARGS, shape
from tests.values import MACHINE, spec, told
from tests.walls import ROOT


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


class _Toy(Engine):
    def defaults(self, words: Sequence[str]) -> tuple[str, ...]:
        return () if has_option(words, "--hostname") else ("--hostname", "127.0.0.1")

    def without_gpu(
        self, words: Sequence[str], memory_bytes: int, machine_bytes: int
    ) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        return ("--cpu",), (("TOY_MEMORY", str(memory_bytes // GIB)),)

    def check(self, spec: AppSpec, words: Sequence[str]) -> None:
        if has_option(words, "--sharded"):
            raise Unsupported(f"app '{spec.key}': toy's shards are not supported")


TOY = _Toy(
    name="toy",
    starts=(("toy-launcher",), ("-m", "toy.serve")),
    guarded=("/generate",),
    key_options=("--api-key",),
    model_options={"--model-id": "--model-id"},
    health="/healthz",
    moved_by=("--prefix",),
    packages={"toy-launcher": "toy-inference"},
    gpu_package="toy-inference",
    failures=(Failure(re.compile(r"shard (?P<number>\d+) is too large"), "shard {number} does not fit"),),
)
COMMAND = ("fserve", "--", "toy-launcher", "--model-id", "Qwen/Qwen3-0.6B", "--api-key", "$AUTH_SECRET")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> AppSpec:
    """An app that runs an engine of which only ``ENGINES`` has heard."""
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, TOY))
    return spec(command=COMMAND, port=8080, secrets=AUTH, models=MODELS, memory_bytes=8 * GIB)


def test_the_next_engine_is_served_by_its_file_alone(toy: AppSpec) -> None:
    """Its command, caches, models, health and open paths reach the unit; nothing else was told of it."""
    environment, options = told(app_units(toy, Replica("a", 1), image_path="/i"))
    args = expand(options.args, {"AUTH_SECRET": "k"}, {"AUTH_SECRET"})
    assert args == ["toy-launcher", "--model-id", "/srv/qwen", "--api-key", "k", "--hostname", "127.0.0.1", "--cpu"]
    assert options.health == "/healthz"
    assert (environment["TOY_MEMORY"], environment["HF_HUB_OFFLINE"]) == ("8", "1")
    assert environment["HF_HOME"] == "/var/cache/flyted-app-a/huggingface"
    assert model_names(toy) == {"Qwen/Qwen3-0.6B"}
    assert open_paths(toy) == ("/generate", "/healthz")
    assert [note for note in notes(toy, MACHINE) if "required): /generate, /healthz; to open" in note]
    assert program_of(toy) == ("toy-launcher", "toy-inference")


def test_the_next_engine_is_refused_and_explained_by_its_file_alone(toy: AppSpec) -> None:
    """What it cannot do, a shell that hides its paths, sleep, its image for GPUs, and why it failed."""
    check(toy)
    with pytest.raises(Unsupported, match="toy's shards"):
        check(dataclasses.replace(toy, command=(*COMMAND, "--sharded")))
    with pytest.raises(InvalidInput, match=r"run vLLM \(it runs toy\)"):
        check(dataclasses.replace(toy, engine_sleep=1))
    with pytest.raises(Unsupported, match="which paths of toy its key protects"):
        arguments.check(spec(command=("fserve", "--", "toy-launcher", "|", "tee", "log"), requires_auth=False))
    assert registry.needs_gpu("toy-inference[all]==1.2")
    found = shape_of(toy)
    assert found is not None
    line = LogLine(time=0, revision=1, source="app", text="ERROR shard 3 is too large")
    assert engine_failure([line], found.engine.failures) == "shard 3 does not fit"


@pytest.mark.parametrize("begin", [(), ("cd", "/srv", "&&"), ("x",) * 50])
@pytest.mark.parametrize("python", [("python3.12", "-u"), ("/opt/bin/python",)])
def test_an_engine_is_found_anywhere_in_a_line(begin: tuple[str, ...], python: tuple[str, ...]) -> None:
    """By its longest way to begin."""
    words = (*begin, *python, "-m", "vllm.entrypoints.cli.main", "serve")
    assert registry.engine_in(words) is VLLM
    assert registry.engine_in(words[:-1]) is None


def test_of_a_long_line_each_word_is_read_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """56 KB fit into one request, and with every word read once for each word flyted stood still for 18 s."""
    read = []

    class Counts(Engine):
        def recognise(self, words: Sequence[str]) -> bool:
            read.append(len(words))
            return False

    monkeypatch.setattr(
        registry, "ENGINES", (Counts(name="counts", starts=(("counts",),), guarded=(), key_options=()),)
    )
    arguments.check(spec(command=("fserve", "--", *["a " * 4000] * 7, ";"), requires_auth=False))
    assert len(read) == 28_001
    assert sum(read) < 10 * len(read)


def test_without_its_row_the_toy_is_any_program() -> None:
    """The two tests above see what ``ENGINES`` says, and nothing that was there before."""
    assert shape_of(spec(command=COMMAND)) is None
    assert not registry.needs_gpu("toy-inference")


def test_nothing_but_the_table_names_an_engine() -> None:
    """A file elsewhere that imports vLLM's would have to be found and changed for the next engine."""
    engines = r"from flyted\.plan\.engines(?:\.(?:vllm|sglang|llama)\b| import .*\b(?:vllm|sglang|llama)\b)"
    files = (ROOT / "flyted").rglob("*.py")
    assert {str(path.relative_to(ROOT)) for path in files if re.search(engines, path.read_text())} == {
        "flyted/plan/engines/registry.py"
    }


def test_the_contract_and_the_engines_agree_on_who_can_sleep() -> None:
    """flytectl gives ``--idle`` to the apps whose commands the contract knows; the plan checks the engines."""
    assert {engine.name: engine.starts for engine in registry.ENGINES if engine.can_sleep} == SLEEPERS
