"""Finds the models that an engine's command names, and puts folders of this machine in their place. Pure.

A plug-in gets a model by name (``model_id``), as a hub has it, or by a path (``model_path``), which arrives as a
parameter of fserve. The plug-in downloads the path to a folder of its own, and the command names this folder.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from flyted.contract.app import AppSpec
from flyted.contract.fserve import parameters, program
from flyted.contract.shell import with_texts
from flyted.plan.engines.base import Engine
from flyted.plan.engines.options import has_option
from flyted.plan.engines.registry import engine_of

_DOWNLOADS = {  # the plug-ins' parameters → the folders to which they are downloaded
    "model_path": "/tmp/flyte/model",  # noqa: S108
    "draft_model_path": "/tmp/flyte/draft-model",  # noqa: S108
}


def model_names(spec: AppSpec) -> frozenset[str]:
    """Return the names of models, as a hub has them, in an app's command; none if its program is no engine."""
    _, words = program(spec.command)
    engine = engine_of(words)
    return frozenset(each.name for each in engine.models(words)) if engine else frozenset()


def model_paths(spec: AppSpec) -> frozenset[str]:
    """Return the folders of this machine that a plug-in gets as ``model_path`` or ``draft_model_path``.

    Raises :class:`InvalidInput` for parameters of fserve that cannot be read.
    """
    head, words = program(spec.command)
    engine = engine_of(words)
    if engine is None or words[0] != engine.plugin:
        return frozenset()
    return frozenset(path for path in _downloads(head).values() if path.startswith("/"))


def with_folders(
    engine: Engine, head: list[str], words: list[str], folders: Mapping[str, str]
) -> tuple[list[str], list[str], bool]:
    """Put folders of this machine in place of models. ``head``: fserve's part. ``folders``: model → folder.

    Returns the command's two parts, and whether all its models are folders now, so that it needs no hub. Raises
    :class:`InvalidInput` for parameters of fserve that cannot be read.
    """
    words, named = _without_names(engine, words, folders, quoted=bool(head))
    head, words, downloaded = _without_downloads(engine, head, words, folders)
    return head, words, named or downloaded


def _without_names(
    engine: Engine, words: Sequence[str], folders: Mapping[str, str], *, quoted: bool
) -> tuple[list[str], bool]:
    found = engine.models(words)
    changed, local = list(words), 0
    for model in found:
        folder = folders.get(model.name)
        if folder is None:
            continue
        local += 1
        text = shlex.quote(folder) if quoted else folder
        option = engine.model_options.get(model.option, "")
        changed[model.at] = f"{option}={text}" if model.joined else text
        if option and not model.joined:
            changed[model.at - 1] = option
    return changed, 0 < local == len(found) and not has_option(words, "--speculative-config")


def _downloads(head: list[str]) -> dict[str, str]:
    """Return the folders to which a plug-in would download its models → the sources; {} if it has other parameters."""
    values = {str(each.get("name")): str(each.get("value", "")) for each in parameters(head)}
    if not values.keys() <= _DOWNLOADS.keys():
        return {}
    return {_DOWNLOADS[name]: value for name, value in values.items()}


def _without_downloads(
    engine: Engine, head: list[str], words: list[str], folders: Mapping[str, str]
) -> tuple[list[str], list[str], bool]:
    """Make the command read folders of this machine in place: the plug-ins would copy them, and cannot stream them.

    Without the parameter the plug-in does not have its loader either (flyteplugins/vllm/_model_loader/shim.py), so the
    arguments that select it are removed too.
    """
    downloads = _downloads(head) if words[0] == engine.plugin else {}
    if not downloads or not set(downloads.values()) <= folders.keys():
        return head, words, False
    for target, source in downloads.items():
        words = [with_texts(word, lambda text: text.replace(target, folders[source])) for word in words]  # noqa: B023
    at = head.index("--parameters")
    return [*head[:at], *head[at + 2 :]], _without_streaming(engine, words), True


def _without_streaming(engine: Engine, words: list[str]) -> list[str]:
    length = len(engine.streaming)
    at = next((at for at in range(len(words)) if tuple(words[at : at + length]) == engine.streaming), None)
    return words if not length or at is None else [*words[:at], *words[at + length :]]
