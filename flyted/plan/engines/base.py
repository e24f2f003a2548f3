"""Defines the description of an engine. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from flyted.contract.app import AppSpec
from flyted.contract.engines import Starts, starts_with
from flyted.plan.engines.failures import Failure

Variables = tuple[tuple[str, str], ...]
CACHE_SHARE = 3
"""Without a GPU, a third of the app's memory is for keys and values; weights and processes need the rest."""


@dataclass(frozen=True)
class SleepMode:
    """How an engine gives its memory back without ending.

    ``levels``: what ``--idle sleep:LEVEL`` may say. ``option``: turns the mode on for an app with a GPU.
    ``variables``: turn on the endpoints that put it to sleep and wake it. ``openable``: the only paths that may be
    open while those endpoints are there. ``blocked_by``: options with which launch cannot ask the engine.
    """

    levels: tuple[int, ...]
    option: str
    variables: Variables
    openable: tuple[str, ...]
    blocked_by: tuple[str, ...]


@dataclass(frozen=True)
class ModelArgument:
    """An argument that names a model.

    ``at``: the index of the word. ``name``: the model. ``option``: the option that it follows, "" if it follows none.
    ``joined``: whether option and model are one word, ``OPTION=MODEL``.
    """

    at: int
    name: str
    option: str = ""
    joined: bool = False


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine: the fields say what it is, the methods what flyted does for an app that runs it.

    ``words`` are always the program and its arguments, without fserve's part of the command.
    """

    name: str
    starts: Starts
    """How its command begins."""
    guarded: tuple[str, ...]
    """The paths, each with all below it, that ask for the engine's API key when it has one."""
    key_options: tuple[str, ...]
    """The options that give it a key."""
    key_variables: tuple[str, ...] = ()
    """The variables that give it a key."""
    model_options: Mapping[str, str] = field(default_factory=dict)
    """Options that take a model's name → the options that take a folder instead."""
    health: str = "/health"
    """A path that answers without key or cost, with status 503 while the model loads."""
    moved_by: tuple[str, ...] = ()
    """Options with which ``health`` may be at another path, or is not plain HTTP."""
    plugin: str = ""
    """The console script that Flyte's plug-in starts it with."""
    streaming: tuple[str, ...] = ()
    """The plug-in's arguments to stream a model instead of reading it from a folder."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Console scripts → the packages that bring them."""
    gpu_package: str = ""
    """The package whose build in the package index runs on GPUs only."""
    failures: tuple[Failure, ...] = ()
    """Causes of failures that only its log names (failures.py has those that several engines share)."""
    sleep: SleepMode | None = None
    """How it sleeps without ending; ``None`` if it cannot."""

    @property
    def can_sleep(self) -> bool:
        """True if it can free its memory without ending."""
        return self.sleep is not None

    def recognise(self, words: Sequence[str]) -> bool:
        """Report whether the words start this engine."""
        return starts_with(words, self.starts)

    def models(self, words: Sequence[str]) -> list[ModelArgument]:
        """Find the arguments that name a model."""
        found = []
        for at, word in enumerate(words):
            option, joined, value = word.partition("=")
            if option in self.model_options and joined:
                found.append(ModelArgument(at, value, option, joined=True))
            elif word in self.model_options and at + 1 < len(words):
                found.append(ModelArgument(at + 1, words[at + 1], word))
        return found

    def key(self, words: list[str], secrets: Collection[str]) -> tuple[list[str], Variables]:
        """Take a key out of the arguments of an engine that would show it there to every user of the machine.

        Returns the words, and (NAME, ALIAS) pairs: the secret in variable NAME is also exported as ALIAS.
        ``secrets``: the variables that hold the app's secrets.
        """
        del secrets
        return words, ()

    def defaults(self, words: Sequence[str]) -> tuple[str, ...]:
        """Return arguments to append, for options that the file leaves out."""
        del words
        return ()

    def environment(self, cache: str) -> Variables:
        """Return variables for the unit; the app's own override them.

        ``cache``: the app's folder that outlives a sleep.
        """
        return (("HF_HOME", f"{cache}/huggingface"), ("HF_HUB_DISABLE_TELEMETRY", "1"))

    def without_gpu(
        self, words: Sequence[str], memory_bytes: int, machine_bytes: int
    ) -> tuple[tuple[str, ...], Variables]:
        """Return arguments to append, and variables, for an app without a GPU.

        ``memory_bytes``: the app's limit. ``machine_bytes``: the machine's memory, 0 if it is not known.
        """
        del words, memory_bytes, machine_bytes
        return (), ()

    def check(self, spec: AppSpec, words: Sequence[str]) -> None:
        """Raise :class:`Unsupported` for a way to run the engine that this machine cannot serve.

        Called for the command of every app, whether :meth:`recognise` accepts it or not.
        """
        del spec, words


def torch_caches(cache: str) -> Variables:
    """Return the variables that keep compiled kernels of PyTorch, Triton, FlashInfer and CUDA below ``cache``."""
    return (
        ("TRITON_CACHE_DIR", f"{cache}/triton"),
        ("TORCHINDUCTOR_CACHE_DIR", f"{cache}/torchinductor"),
        ("FLASHINFER_WORKSPACE_BASE", cache),
        ("CUDA_CACHE_PATH", f"{cache}/cuda"),
    )
