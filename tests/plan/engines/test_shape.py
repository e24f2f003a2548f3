"""Commands of engines: completed, and never changed where the file has said it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from flyted.contract.app import SecretUse
from flyted.contract.names import Replica
from flyted.launch.expand import expand
from flyted.launch.options import parse
from flyted.plan.command import options as handed_on
from flyted.plan.engines.shape import open_paths
from flyted.plan.notes import notes
from flyted.plan.units import app_units
from tests.plan.engines.commands import (
    AUTH,
    FSERVE,
    KEY,
    LLAMA_ARGS,
    LLAMA_CPU,
    SGLANG_ARGS,
    SGLANG_CPU,
    VLLM_ARGS,
    VLLM_CPU,
    added,
    cpu_shape,
    shape,
)
from tests.values import MACHINE, spec, told


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


def test_health_is_asked_where_it_is() -> None:
    """An option that moves it, or TLS of the engine's own, and nothing is asked."""
    assert shape(*FSERVE, *VLLM_ARGS).health == "/health"
    assert shape(*FSERVE, *LLAMA_ARGS, "--api-prefix", "/llm").health == ""
    assert shape(*FSERVE, *SGLANG_ARGS, "--ssl-keyfile=k").health == ""


def test_with_a_gpu_nothing_is_added() -> None:
    """The plug-ins and their engines were made for that."""
    for command in (VLLM_CPU, SGLANG_CPU, LLAMA_CPU):
        assert added(*command, gpu_count=1) == ()
        names = dict(cpu_shape(*command, gpu_count=1).env)
        assert not names.keys() & {"VLLM_CPU_KVCACHE_SPACE", "SGLANG_USE_CPU_ENGINE"}


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
    assert [n for n in notes(spec(open_paths=("/x",)), MACHINE) if "has no effect" in n]
    assert [n for n in notes(spec(disk_bytes=1 << 30), MACHINE) if "resources.disk" in n]


def test_a_variable_that_nobody_expands_is_said_at_serve() -> None:
    """Flyte's fserve expands the words of `args`; those of `command` nobody, on a cluster neither."""
    said = list(notes(spec(command=("busybox", "httpd", "-r", "$AUTH_SECRET", "$HOME"), secrets=AUTH), MACHINE))
    assert [n for n in said if "gets the text $AUTH_SECRET" in n] == said != []
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
