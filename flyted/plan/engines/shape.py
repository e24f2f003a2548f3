"""Makes an app's command as its unit runs it, if it starts an engine, and finds which of its paths are open. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.app import AppSpec
from flyted.contract.fserve import program
from flyted.plan.engines.base import Engine, Variables
from flyted.plan.engines.models import with_folders
from flyted.plan.engines.options import has_option
from flyted.plan.engines.registry import engine_of, package_of


@dataclass(frozen=True)
class Shape:
    """An engine as an app runs it.

    ``command``: replaces ``spec.command``. ``env``: overrides the image's variables; the app's own win.
    ``extra_secret_variables``: (NAME, ALIAS) pairs; the secret in NAME is also exported as ALIAS. ``has_key``: whether
    it asks for an API key. ``health``: the path that says whether it is healthy, "" if it is not known.
    """

    engine: Engine
    command: tuple[str, ...]
    env: Variables
    extra_secret_variables: Variables
    has_key: bool
    health: str


def shape_of(spec: AppSpec, cache: str = "", machine_bytes: int = 0) -> Shape | None:
    """Return the shape of an app, or ``None`` if its command starts no engine.

    ``cache``: the app's cache folder. ``machine_bytes``: the machine's memory, 0 if it is not known. Raises
    :class:`InvalidInput` for parameters of fserve that cannot be read.
    """
    head, words = program(spec.command)
    engine = engine_of(words)
    if engine is None:
        return None
    secrets = {use.env for use in spec.secrets if use.env}
    head, words, local = with_folders(engine, head, words, dict(spec.models))
    words, aliases = engine.key(words, secrets)
    words += engine.defaults(words)
    words, sleep_env = _with_sleep(engine, words, spec)
    added, cpu_env = ((), ()) if spec.gpu_count else engine.without_gpu(words, spec.memory_bytes, machine_bytes)
    words += added
    variables = {name for name, _ in spec.env} | secrets | {alias for _, alias in aliases}
    return Shape(
        engine,
        (*head, *words),
        (*engine.environment(cache), *cpu_env, *((("HF_HUB_OFFLINE", "1"),) if local else ()), *sleep_env),
        aliases,
        has_option(words, *engine.key_options) or bool(variables & set(engine.key_variables)),
        "" if has_option(words, *engine.moved_by) else engine.health,
    )


def open_paths(spec: AppSpec) -> tuple[str, ...] | None:
    """Return the paths that everybody may ask for, each with all below it; ``None`` if the ingress closes none.

    For an app that checks a key itself, these are the paths that the key protects, the health path, and the paths
    opened when it was served. If the ingress asks for a token, or the app for no key, no path has to be closed. But an
    engine that can be put to sleep has endpoints for that, which are closed to everybody, with a token or without.
    """
    shape = shape_of(spec) if spec.engine_sleep or not spec.requires_auth else None
    if shape is None:
        return None
    if not shape.has_key or spec.requires_auth:
        mode = shape.engine.sleep
        return mode.openable if mode and spec.engine_sleep else None
    if "/" in spec.open_paths:
        return None
    known = (*shape.engine.guarded, shape.health) if shape.health else ()  # else the key may protect other paths
    return tuple(dict.fromkeys((*known, *spec.open_paths)))


def program_of(spec: AppSpec) -> tuple[str, str]:
    """Return the console script that starts an engine, and the package that brings it; ("", "") for other programs."""
    _, words = program(spec.command)
    package = package_of(words[0]) if words else ""
    return (words[0], package) if package else ("", "")


def _with_sleep(engine: Engine, words: list[str], spec: AppSpec) -> tuple[list[str], Variables]:
    """Return the words, with the option for the engine's sleep mode if the app asks for that, and the variables."""
    mode = engine.sleep
    if mode is None or not spec.engine_sleep:
        return words, ()
    missing = spec.gpu_count and not has_option(words, mode.option)
    return [*words, mode.option] if missing else words, mode.variables
