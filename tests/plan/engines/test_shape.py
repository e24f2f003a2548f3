"""Commands of language model servers: recognised, completed, and never changed where the file has said it."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import shlex
from typing import Any

import pytest

from flyted.contract.app import SecretUse
from flyted.contract.names import Replica
from flyted.launch.expand import expand
from flyted.launch.options import parse
from flyted.plan.command import options as handed_on
from flyted.plan.engines.base import Engine
from flyted.plan.engines.llama import LLAMA
from flyted.plan.engines.models import model_names, model_paths
from flyted.plan.engines.sglang import SGLANG
from flyted.plan.engines.shape import Shape, open_paths, program_of, shape_of
from flyted.plan.engines.vllm import VLLM
from flyted.plan.notes import notes
from flyted.plan.units import app_units
from tests.plan.stored import MACHINE, spec, told

FSERVE = ("fserve", "--resolver", "r", "--resolver-args", "m:v", "--")
AUTH = (SecretUse("AUTH_SECRET", env="AUTH_SECRET"),)
KEY = ("--api-key", "$AUTH_SECRET")
# what the plug-ins 2.12.1 make of the document's two scripts
VLLM_ARGS = ("vllm-fserve", "serve", "Qwen/Qwen3-0.6B", "--served-model-name", "qwen3-0.6b", "--port", "8080", *KEY)
SGLANG_ARGS = (
    "sglang-fserve", "--model-path", "Qwen/Qwen3-0.6B", "--served-model-name", "qwen3-0.6b", "--host", "0.0.0.0",
    "--enable-metrics", "--port", "8080", *KEY,
)  # fmt: skip
LLAMA_ARGS = ("llama-cpp-fserve", "--model-dir", "/m", "--alias", "tiny", "--host", "0.0.0.0", "--port", "8080")


def shape(*command: str, **changes: Any) -> Shape:
    """The shape of an app with this command, which has a GPU."""
    found = shape_of(spec(command=command, port=8080, **{"gpu_count": 1, **changes}), "/var/cache/a")
    assert found is not None
    return found


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


def test_vllm_listens_on_the_loopback_unless_the_file_says_otherwise() -> None:
    """Its own default is every address, and the plug-in gives none; SGLang's gives one."""
    assert shape(*FSERVE, *VLLM_ARGS).command == (*FSERVE, *VLLM_ARGS, "--host", "127.0.0.1")
    for said in (("--host", "::"), ("--host=::",), ("--uds", "/tmp/s")):
        assert shape(*FSERVE, *VLLM_ARGS, *said).command == (*FSERVE, *VLLM_ARGS, *said)
    assert shape(*FSERVE, *SGLANG_ARGS).command == (*FSERVE, *SGLANG_ARGS)


def test_what_a_plugin_quotes_for_flytes_shell_is_taken_back() -> None:
    """flyteplugins' _shell_safe; of 'command' no shell reads anything."""
    config = '{"method": "ngram", "num_speculative_tokens": 5}'
    words = shape(*FSERVE, *VLLM_ARGS, "--speculative-config", f"'{config}'", '{"a":1}').command
    assert words[-4:-2] == (f"'{config}'", "'{a:1}'")
    options = parse(["--app", "a", *handed_on(words)])
    assert expand(options.args, {"AUTH_SECRET": "k"}, ())[-4:-2] == [config, "{a:1}"]
    plain = ("vllm", "serve", "m", "--speculative-config", f"'{config}'")
    assert shape(*plain).command[: len(plain)] == plain


@pytest.mark.parametrize(
    "key", ["$AUTH_SECRET", "${AUTH_SECRET}", '"$AUTH_SECRET"', "=$AUTH_SECRET", "=${AUTH_SECRET}"]
)
def test_a_key_is_known_however_the_shell_is_told(key: str) -> None:
    """``--api-key=$K`` as one word had the text $K for its key, which is no secret."""
    words = (f"--api-key{key}",) if key[0] == "=" else ("--api-key", key)
    vllm = shape(*FSERVE, *VLLM_ARGS[:-2], *words, secrets=AUTH)
    assert vllm.has_key
    given = expand(parse(["--app", "a", *handed_on(vllm.command)]).args, {"AUTH_SECRET": "k"}, {"AUTH_SECRET"})
    assert "--api-key=k" in given or given[given.index("--api-key") + 1] == "k"
    llama = shape(*FSERVE, *LLAMA_ARGS, *words, secrets=AUTH)
    assert llama.command[: len(FSERVE) + len(LLAMA_ARGS)] == (*FSERVE, *LLAMA_ARGS)
    assert (llama.extra_secret_variables, llama.has_key) == ((("AUTH_SECRET", "LLAMA_API_KEY"),), True)
    assert "AUTH_SECRET" not in "".join(llama.command)


@pytest.mark.parametrize(
    ("command", "changes", "has_key"),
    [
        (VLLM_ARGS, {"secrets": AUTH}, True),
        (VLLM_ARGS[:-2], {}, False),
        (VLLM_ARGS[:-2], {"secrets": (SecretUse("K", env="VLLM_API_KEY"),)}, True),
        (("vllm", "serve", "m", "--api-key=x"), {}, True),
        (SGLANG_ARGS, {"secrets": AUTH}, True),
        (SGLANG_ARGS[:-2], {"secrets": (SecretUse("K", env="VLLM_API_KEY"),)}, False),
        ((*LLAMA_ARGS, "--api-key-file", "/etc/flyte/secrets/k"), {}, True),
        (LLAMA_ARGS, {"env": (("LLAMA_API_KEY", "x"),)}, True),
        (LLAMA_ARGS, {}, False),
    ],
)
def test_whether_it_asks_for_a_key(command: tuple[str, ...], changes: dict[str, object], has_key: bool) -> None:
    """By option or by the variable that this engine reads."""
    assert shape(*FSERVE, *command, **changes).has_key is has_key


def test_the_key_of_llama_server_is_no_argument() -> None:
    """It is a C++ program: what it gets as an argument, all users can read. It reads a variable as well."""
    found = shape(*FSERVE, *LLAMA_ARGS, *KEY, "--ctx-size", "512", secrets=AUTH)
    assert found.command == (*FSERVE, *LLAMA_ARGS, "--ctx-size", "512")
    assert (found.extra_secret_variables, found.has_key) == ((("AUTH_SECRET", "LLAMA_API_KEY"),), True)
    plain = shape(*FSERVE, *LLAMA_ARGS, "--api-key", "$MODE", env=(("MODE", "x"),))
    assert (plain.command[-2:], plain.extra_secret_variables) == (("--api-key", "$MODE"), ())


def test_health_is_asked_where_it_is() -> None:
    """An option that moves it, or TLS of the engine's own, and nothing is asked."""
    assert shape(*FSERVE, *VLLM_ARGS).health == "/health"
    assert shape(*FSERVE, *LLAMA_ARGS, "--api-prefix", "/llm").health == ""
    assert shape(*FSERVE, *SGLANG_ARGS, "--ssl-keyfile=k").health == ""


MODELS = (("Qwen/Qwen3-0.6B", "/srv/qwen"), ("ggml-org/tiny-GGUF:Q4", "/srv/gguf"))
HF = (*LLAMA_ARGS[:1], "--hf-repo", "ggml-org/tiny-GGUF:Q4", *LLAMA_ARGS[3:])


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


def with_parameters(*command: str, **values: str) -> tuple[str, ...]:
    """A plug-in's command with the parameters that it makes of model_path= (flyte/app/_parameter.py)."""
    items = [{"name": name, "value": value, "download": False, "type": "string"} for name, value in values.items()]
    text = base64.b64encode(gzip.compress(json.dumps({"parameters": items}).encode())).decode()
    return ("fserve", "--parameters", text, *FSERVE[1:], *command)


MOUNT, DRAFT = "/tmp/flyte/model", "/tmp/flyte/draft-model"


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


def test_llama_server_itself_takes_no_folder() -> None:
    """Only the plug-in's starter looks for the file in one."""
    words = ("llama-server", "--hf-repo", "ggml-org/tiny-GGUF:Q4")
    assert shape(*words, models=MODELS).command == words
    assert model_names(spec(command=words)) == frozenset()
    assert model_names(spec(command=("python", "serve.py", "--model", "Qwen/Qwen3-0.6B"))) == frozenset()


def test_only_what_the_key_guards_is_open() -> None:
    """And health, and what was opened at serve; of vLLM not /invocations, which answers without the key."""
    vllm = spec(command=(*FSERVE, *VLLM_ARGS), secrets=AUTH)
    known = ("/v1", "/v2", "/inference", "/cohere", "/health")
    assert open_paths(vllm) == known
    assert open_paths(dataclasses.replace(vllm, open_paths=("/metrics", "/v1"))) == (*known, "/metrics")
    sglang = open_paths(spec(command=(*FSERVE, *SGLANG_ARGS), secrets=AUTH))
    assert sglang is not None
    assert {"/v1", "/generate", "/health"} < set(sglang)
    assert not {"/metrics", "/health_generate", "/server_info", "/"} & set(sglang)


@pytest.mark.parametrize(
    "changes",
    [
        {"requires_auth": True},
        {"open_paths": ("/x", "/")},
        {"command": (*FSERVE, *VLLM_ARGS[:-2])},
        {"command": ("python", "serve.py", *KEY)},
    ],
)
def test_nothing_is_closed_where_the_key_is_not_what_guards(changes: dict[str, Any]) -> None:
    """The ingress asks for a token, the user opened all, there is no key, or it is another program."""
    app = spec(command=(*FSERVE, *VLLM_ARGS), secrets=AUTH)
    assert open_paths(dataclasses.replace(app, **changes)) is None


def test_where_the_paths_lie_elsewhere_only_the_opened_are_open() -> None:
    """--root-path is taken off before vLLM looks at what its key guards: /v1 may be anything then."""
    moved = spec(command=(*FSERVE, *VLLM_ARGS, "--root-path", "/v1"), secrets=AUTH, open_paths=("/v1/v1",))
    assert open_paths(moved) == ("/v1/v1",)


def test_what_is_open_is_said_at_serve() -> None:
    """And that a flag which changes nothing changes nothing; and that a disk is not limited."""
    vllm = spec(command=(*FSERVE, *VLLM_ARGS), secrets=AUTH)
    assert [n for n in notes(vllm, MACHINE) if "required): /v1, /v2, /inference and 2 more (flytectl app get)" in n]
    assert list(notes(spec(), MACHINE)) == []
    assert [n for n in notes(spec(open_paths=("/x",)), MACHINE) if "changes nothing" in n]
    assert [n for n in notes(spec(disk_bytes=1 << 30), MACHINE) if "resources.disk" in n]


def test_a_variable_that_nobody_expands_is_said_at_serve() -> None:
    """Flyte's fserve expands the words of `args`; those of `command` nobody, on a cluster neither."""
    said = list(notes(spec(command=("busybox", "httpd", "-r", "$AUTH_SECRET", "$HOME"), secrets=AUTH), MACHINE))
    assert [n for n in said if "gets $AUTH_SECRET itself" in n] == said != []
    keyed = spec(command=("llama-server", *KEY), secrets=AUTH)
    assert list(notes(keyed, MACHINE))[1:] == []  # flyted gives it the variable
    assert "itself" not in "".join(notes(spec(command=(*FSERVE, "busybox", "$AUTH_SECRET"), secrets=AUTH), MACHINE))


def test_the_unit_has_it_all() -> None:
    """The command, the caches in the app's own folder, the key under both names; the app wins."""
    app = spec("llm", command=(*FSERVE, *LLAMA_ARGS, *KEY), port=8080, secrets=AUTH, env=(("LLAMA_CACHE", "/mine"),))
    made = app_units(app, Replica("llm", 1), image_path="/i", image_env=(("HF_HOME", "/image"), ("B", "image")))
    environment, options = told(made)
    assert environment["HF_HOME"] == "/var/cache/flyted-app-llm/huggingface"  # the images of plug-ins say /tmp
    assert environment["B"] == "image"
    assert environment["LLAMA_CACHE"] == "/mine"
    assert options.health == "/health"
    assert [*options.command, *options.args] == [*FSERVE, *LLAMA_ARGS]
    assert [(s.credential, s.name) for s in options.secrets] == [("s0", "AUTH_SECRET"), ("s0", "LLAMA_API_KEY")]
    kernels, _ = told(app_units(spec("v", command=(*FSERVE, *VLLM_ARGS)), Replica("v", 1), image_path="/i"))
    assert kernels["TRITON_CACHE_DIR"] == "/var/cache/flyted-app-v/triton"
    assert kernels["VLLM_CACHE_ROOT"] == "/var/cache/flyted-app-v/vllm"
    assert kernels["VLLM_NO_USAGE_STATS"] == "1"
