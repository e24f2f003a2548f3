"""Programs that serve language models: vLLM, SGLang, llama.cpp. What flyted knows of each, and does for it. Pure.

They are recognised by their command alone, a plug-in's (``vllm-fserve serve …``) or one written out (``command=``).
The spec stays what the file says; what is added here is added to the unit.

Sources, read for the versions that the plug-ins 2.12.1 pin: flyteplugins/{vllm,sglang}/_app_environment.py;
vllm/entrypoints/openai/server_utils.py (AuthenticationMiddleware); sglang/srt/utils (add_api_key_middleware);
llama.cpp, tools/server/README.md.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flyted.contract.app import AppSpec
from flyted.contract.engines import MOVED_BY, OPENABLE, engine_of, given, options_of
from flyted.contract.errors import Unsupported
from flyted.contract.fserve import parameters, program
from flyted.contract.shell import with_texts
from flyted.plan.engines import cpu

_ROUTER = "sglang_router"
_VARIABLE = re.compile(r'"?\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?"?')


@dataclass(frozen=True)
class Engine:
    """``guarded``: the paths, with all below them, that ask for the key when there is one.

    ``key_options``, ``key_variables``: how it is given one. ``model_options``: options that a model's name comes
    after, and those that take a folder instead. ``moved_by``: options after which ``/health`` may lie
    elsewhere or is not plain HTTP.
    """

    name: str
    guarded: tuple[str, ...]
    key_options: tuple[str, ...]
    model_options: Mapping[str, str]
    key_variables: tuple[str, ...] = ()
    moved_by: tuple[str, ...] = ()


HEALTH = "/health"  # of all three: no key, no cost, 503 while there is no model yet

VLLM = Engine(
    "vLLM", ("/v1", "/v2", "/inference", "/cohere"), ("--api-key",),
    {"--model": "--model", "--tokenizer": "--tokenizer"}, ("VLLM_API_KEY",),
    MOVED_BY,
)  # fmt: skip
SGLANG = Engine(
    "SGLang",
    ("/v1", "/generate", "/encode", "/classify", "/model_info", "/get_model_info"),
    ("--api-key", "--admin-api-key"),
    {o: o for o in ("--model-path", "--model", "--tokenizer-path", "--speculative-draft-model-path")},
    moved_by=("--ssl-keyfile",),
)
LLAMA = Engine(
    "llama.cpp",
    (
        "/v1", "/completion", "/completions", "/chat/completions", "/embedding", "/embeddings", "/infill", "/rerank",
        "/reranking", "/tokenize", "/detokenize", "/apply-template", "/props", "/slots", "/metrics", "/lora-adapters",
    ),
    ("--api-key", "--api-key-file"), {"--hf-repo": "--model-dir", "--hf-repo-draft": "--draft-model-dir"},
    ("LLAMA_API_KEY",), ("--api-prefix", "--ssl-key-file"),
)  # fmt: skip

_ENGINES = {engine.name: engine for engine in (VLLM, SGLANG, LLAMA)}
_PLUGINS = {"vllm-fserve": VLLM, "sglang-fserve": SGLANG, "llama-cpp-fserve": LLAMA}
_PACKAGES = {
    "vllm-fserve": "flyteplugins-vllm", "sglang-fserve": "flyteplugins-sglang",
    "llama-cpp-fserve": "flyteplugins-llamacpp", "vllm": "vllm", "sglang": "sglang",
}  # fmt: skip
_MOUNTS = {"model_path": "/tmp/flyte/model", "draft_model_path": "/tmp/flyte/draft-model"}  # noqa: S108  the plug-ins'
_STREAMING = ("--load-format", "flyte-vllm-streaming")


@dataclass(frozen=True)
class Shape:
    """An engine as an app runs it.

    ``command``: instead of the spec's. ``env``: above the image's, whose caches lie in /tmp, and below the app's own.
    ``also``: secrets that are given a second variable, (the first, the second). ``has_key``: whether it asks for one.
    ``health``: "" where it is not known.
    """

    engine: Engine
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    also: tuple[tuple[str, str], ...]
    has_key: bool
    health: str


def shape_of(spec: AppSpec, cache: str = "", machine_bytes: int = 0) -> Shape | None:
    """What an app's command is, if it is one of the engines.

    ``cache``: the app's cache folder. ``machine_bytes``: the memory that this machine has, if it is known.
    """
    head, words = program(spec.command)
    engine = _engine(words)
    if engine is None:
        return None
    folders = dict(spec.models)
    words, offline = _with_folders(engine, words, folders, shlex.quote if head else str)
    head, words, mounted = _without_mounts(head, words, folders)
    words, also = _key_in_a_variable(engine, words, {use.env for use in spec.secrets if use.env})
    if engine is VLLM and not given(words, "--host", "--uds"):
        words += ["--host", "127.0.0.1"]  # else it is 0.0.0.0, and the plug-in says nothing
    if spec.engine_sleep and spec.gpu_count and not given(words, "--enable-sleep-mode"):
        words.append("--enable-sleep-mode")  # without a GPU vLLM refuses it; its endpoints are there all the same
    words, cpu_env = _without_gpu(engine, words, spec, machine_bytes)
    variables = {name for name, _ in spec.env} | {use.env for use in spec.secrets} | {new for _, new in also}
    return Shape(
        engine,
        (*head, *words),
        (
            *_environment(engine, cache),
            *cpu_env,
            *((("HF_HUB_OFFLINE", "1"),) if offline or mounted else ()),
            *((("VLLM_SERVER_DEV_MODE", "1"),) if spec.engine_sleep else ()),  # /sleep is not there without
        ),
        also,
        given(words, *engine.key_options) or bool(variables & set(engine.key_variables)),
        "" if given(words, *engine.moved_by) else HEALTH,
    )


def open_paths(spec: AppSpec) -> tuple[str, ...] | None:
    """The paths that everybody may ask for, each with all below it; ``None`` where the ingress closes none.

    Of an app that checks a key itself, those that the key guards, its health, and what was opened at serve. Where the
    ingress asks for a token, or the app for no key, nothing is to be closed; but of one that sleeps by vLLM's
    development endpoints, those are closed to all, tokens or not.
    """
    shape = shape_of(spec) if spec.engine_sleep or not spec.requires_auth else None
    if shape is None:
        return None
    if not shape.has_key or spec.requires_auth:
        return OPENABLE if spec.engine_sleep else None
    if "/" in spec.open_paths:
        return None
    known = (*shape.engine.guarded, HEALTH) if shape.health else ()  # else the key may guard other paths
    return tuple(dict.fromkeys((*known, *spec.open_paths)))


def model_names(spec: AppSpec) -> frozenset[str]:
    """The models that an app's command names, as a hub does; none of a program that is not known."""
    _, words = program(spec.command)
    engine = _engine(words)
    return frozenset(place.name for place in _models(engine, words)) if engine else frozenset()


def model_paths(spec: AppSpec) -> frozenset[str]:
    """Folders of this machine that a plug-in is given as ``model_path`` or ``draft_model_path``."""
    head, words = program(spec.command)
    if not words or words[0] not in _PLUGINS:
        return frozenset()
    return frozenset(value for value in _mounted(head).values() if value.startswith("/"))


def check(spec: AppSpec) -> None:
    """Raises :class:`Unsupported` for SGLang's router where its own key is to be the only guard.

    It is a program of its own, with workers that have ports of their own, and no list of its open paths is known here:
    it would be served with all of them open.
    """
    _, words = program(spec.command)
    router = any(word.partition(".")[0] == _ROUTER for word in words[:4])
    if router and not spec.requires_auth and given(words, *SGLANG.key_options):
        raise Unsupported(
            f"app '{spec.key}': SGLang's router (router=True) with a key of its own is not supported: "
            "which of its paths that key guards is not known",
            hint="leave router=True out, or let the ingress ask for a token: requires_auth=True",
        )


def program_of(spec: AppSpec) -> tuple[str, str]:
    """The console script that an engine is started with, and the package that brings it; empty for another program."""
    _, words = program(spec.command)
    return (words[0], _PACKAGES[words[0]]) if words and words[0] in _PACKAGES else ("", "")


def _engine(words: list[str]) -> Engine | None:
    return _ENGINES.get(engine_of(words))


def _mounted(head: list[str]) -> dict[str, str]:
    """Where a plug-in would have its models downloaded to, and from where; nothing if it has other parameters."""
    given_values = {str(p.get("name")): str(p.get("value", "")) for p in parameters(head)}
    if not given_values.keys() <= _MOUNTS.keys():
        return {}
    return {_MOUNTS[name]: value for name, value in given_values.items()}


def _without_mounts(
    head: list[str], words: list[str], folders: Mapping[str, str]
) -> tuple[list[str], list[str], bool]:
    """Folders of this machine are read where they lie; the plug-ins would copy them, and cannot stream from them.

    Without the parameter the plug-in's loader is not there either (flyteplugins/vllm/_model_loader/shim.py).
    """
    mounts = _mounted(head) if words[0] in _PLUGINS else {}
    if not mounts or not set(mounts.values()) <= folders.keys():
        return head, words, False
    for mount, value in mounts.items():
        words = [with_texts(word, lambda text: text.replace(mount, folders[value])) for word in words]  # noqa: B023
    at = head.index("--parameters")
    if _STREAMING[1] in words:
        where = words.index(_STREAMING[1])
        if words[where - 1] == _STREAMING[0]:
            words = [*words[: where - 1], *words[where + 1 :]]
    return [*head[:at], *head[at + 2 :]], words, True


@dataclass(frozen=True)
class _Model:
    """Where a model is named: the word ``at``, after ``option`` (in the same word, if ``joined``)."""

    at: int
    name: str
    option: str = ""
    joined: bool = False


def _models(engine: Engine, words: list[str]) -> list[_Model]:
    options = {} if engine is LLAMA and words[0] not in _PLUGINS else engine.model_options
    found = []
    for at, word in enumerate(words):
        option, joined, value = word.partition("=")
        if option in options and joined:
            found.append(_Model(at, value, option, joined=True))
        elif word in options and at + 1 < len(words):
            found.append(_Model(at + 1, words[at + 1], word))
        elif engine is VLLM and at and words[at - 1] == "serve" and not word.startswith("-"):
            found.append(_Model(at, word))
    return found


def _with_folders(
    engine: Engine, words: list[str], folders: Mapping[str, str], quote: Callable[[str], str]
) -> tuple[list[str], bool]:
    """The command with folders in place of the models' names, and whether no hub is to be asked then."""
    places, local = _models(engine, words), 0
    changed = list(words)
    for place in places:
        folder = folders.get(place.name)
        if folder is None:
            continue
        local += 1
        option = engine.model_options.get(place.option, "")
        changed[place.at] = f"{option}={quote(folder)}" if place.joined else quote(folder)
        if option and not place.joined:
            changed[place.at - 1] = option
    return changed, 0 < local == len(places) and not given(words, "--speculative-config")


def _key_in_a_variable(
    engine: Engine, words: list[str], secrets: set[str]
) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """llama-server is no Python program: all users could read the key among its arguments, so it gets a variable."""
    if engine is not LLAMA:
        return words, ()
    for at, word in enumerate(words):
        option, joined, value = word.partition("=")
        if option != "--api-key":
            continue
        value = value if joined else next(iter(words[at + 1 : at + 2]), "")
        name = _VARIABLE.fullmatch(value)
        if name is not None and name[1] in secrets:
            rest = [*words[:at], *words[at + (1 if joined else 2) :]]
            return rest, () if name[1] == "LLAMA_API_KEY" else ((name[1], "LLAMA_API_KEY"),)
    return words, ()


def _without_gpu(
    engine: Engine, words: list[str], spec: AppSpec, machine_bytes: int
) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """The command, and variables, of an app that is given no GPU."""
    if spec.gpu_count:
        return words, ()
    options = options_of(words)
    if engine is VLLM:
        return [*words, *cpu.vllm_words(options)], cpu.vllm_variables(options, spec.memory_bytes)
    if engine is SGLANG:
        return [*words, *cpu.sglang_words(options, spec.memory_bytes, machine_bytes)], cpu.SGLANG_VARIABLES
    return words, ()


def _environment(engine: Engine, cache: str) -> tuple[tuple[str, str], ...]:
    """Models and compiled kernels lie where they outlive a sleep; nobody is told what is served."""
    common = [("HF_HOME", f"{cache}/huggingface"), ("HF_HUB_DISABLE_TELEMETRY", "1")]
    if engine is LLAMA:
        return (*common, ("LLAMA_CACHE", f"{cache}/llama.cpp"))
    kernels = [
        ("TRITON_CACHE_DIR", f"{cache}/triton"),
        ("TORCHINDUCTOR_CACHE_DIR", f"{cache}/torchinductor"),
        ("FLASHINFER_WORKSPACE_BASE", cache),
        ("CUDA_CACHE_PATH", f"{cache}/cuda"),
    ]
    if engine is VLLM:
        kernels += [("VLLM_CACHE_ROOT", f"{cache}/vllm"), ("VLLM_NO_USAGE_STATS", "1")]
    return (*common, *kernels)
