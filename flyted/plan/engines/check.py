"""Refuses apps whose engine cannot be served as they ask for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from flyted.contract.app import AppSpec
from flyted.contract.engines import SLEEPERS
from flyted.contract.errors import InvalidInput
from flyted.contract.fserve import program
from flyted.contract.names import printable
from flyted.plan.engines import registry
from flyted.plan.engines.base import SleepMode
from flyted.plan.engines.options import has_option


def check(spec: AppSpec) -> None:
    """Raise :class:`Unsupported` for an engine that cannot be served as the app asks for it.

    Raises :class:`InvalidInput` for an app that asks for ``--idle sleep`` and whose engine cannot sleep without
    ending, or could be put to sleep by strangers.
    """
    _, words = program(spec.command)
    for engine in registry.ENGINES:
        engine.check(spec, words)
    if spec.engine_sleep:
        _check_sleep(spec, words)


def _check_sleep(spec: AppSpec, words: Sequence[str]) -> None:
    engine = registry.engine_of(words)
    mode = engine.sleep if engine else None
    if engine is None or mode is None or not spec.port:
        what = f"it runs {engine.name}" if engine else "it does not"
        raise InvalidInput(
            f"app '{spec.key}': --idle sleep is for apps that run {' or '.join(SLEEPERS)} ({what})",
            hint="without it, an idle app is stopped",
        )
    if spec.engine_sleep not in mode.levels:
        raise InvalidInput(
            f"app '{spec.key}': {engine.name} has no sleep level {spec.engine_sleep}",
            hint="--idle sleep, or --idle sleep:2",
        )
    if spec.min_replicas:
        raise InvalidInput(
            f"app '{spec.key}' has a minimum of replicas: it is never idle, so --idle has no effect",
            hint="use replicas=(0, 1)",
        )
    _check_reachable(spec, words, engine.name, mode)
    _check_open_paths(spec, engine.name, mode)


def _check_reachable(spec: AppSpec, words: Sequence[str], name: str, mode: SleepMode) -> None:
    blocked = [option for option in mode.blocked_by if has_option(words, option)]
    if blocked:
        raise InvalidInput(
            f"app '{spec.key}': with {blocked[0]} {name} cannot be put to sleep: flyted asks for it by plain HTTP",
            hint=f"remove {blocked[0]}: the ingress provides the host name and the certificate",
        )


def _check_open_paths(spec: AppSpec, name: str, mode: SleepMode) -> None:
    closed = [path for path in spec.open_paths if not any(f"{path}/".startswith(f"{each}/") for each in mode.openable)]
    if closed:
        raise InvalidInput(
            f"app '{spec.key}': --open-path {printable(closed[0])} cannot be combined with --idle sleep: {name} then "
            "has endpoints that no key protects, some of which run code",
            hint=f"what can be opened: {', '.join(mode.openable)}",
        )
