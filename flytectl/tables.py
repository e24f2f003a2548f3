"""Renders tables of models, tokens and GPUs for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flytectl.render import of, safe, table
from flytectl.times import day, told
from flyted.contract.quantity import human_bytes


def models_table(models: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of ``flytectl model ls``: a row per model, with the problem that keeps apps from using it."""
    rows = [[of(m, "name"), of(m, "problem") or human_bytes(m.get("bytes") or 0), of(m, "folder")] for m in models]
    return table(["NAME", "SIZE", "FOLDER"], rows)


def tokens_table(tokens: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of ``flytectl token ls``: a row per token; the tokens themselves are stored nowhere.

    Every call of ``flyte`` makes a token without a name: those of the same kind, user and app share a row.
    """
    several = len({t.get("user") for t in tokens}) > 1
    header = ["NAME", "KIND", *(["USER"] if several else []), "APP", "USED", "EXPIRES", "ID"]
    rows = []
    for group in _alike(tokens):
        last = max(group, key=lambda t: t.get("expires_at") or 0)
        rows.append(
            [
                of(last, "name") or (f"({len(group)} of them)" if len(group) > 1 else "-"),
                of(last, "kind"),
                *([of(last, "user")] if several else []),
                of(last, "app") or "*",
                day(max(t.get("used_at") or 0 for t in group)) or "-",
                told(last.get("expires_at") or 0),
                of(last, "id") if len(group) == 1 else "",
            ]
        )
    return table(header, rows)


def _alike(tokens: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for token in tokens:
        words = ("kind", "user", "app") if not token.get("name") else ("kind", "user", "app", "name", "id")
        groups.setdefault(tuple(of(token, word) for word in words), []).append(token)
    return list(groups.values())


def gpus_table(found: Mapping[str, Any]) -> str:
    """Return the text of ``flytectl gpu ls``: a row per GPU and partition, with its holders; then the waiting apps."""
    header = ["GPU", "NAME", "FREE", "MEMORY", "STATE", "HELD BY", "SINCE"]
    rows = [row for gpu in found.get("gpus") or () for row in _gpu_rows(gpu)]
    lines = [table(header, rows)] if rows else []
    lines += [f"waiting: {safe(w.get('unit'))}: {safe(w.get('why'))}" for w in found.get("waiting") or ()]
    return "\n".join(lines)


def _gpu_rows(gpu: Mapping[str, Any], indent: str = "") -> list[list[str]]:
    memory = [human_bytes(gpu.get(name) or 0) for name in ("free_bytes", "memory_bytes")]
    first = [indent + of(gpu, "uuid"), of(gpu, "name"), *memory, of(gpu, "error") or of(gpu, "state")]
    held = [[_holder(h), told(h.get("since") or 0)] for h in gpu.get("holders") or ()] or [["", ""]]
    rows = [[*first, *held[0]], *([""] * len(first) + other for other in held[1:])]
    return [*rows, *(row for part in gpu.get("partitions") or () for row in _gpu_rows(part, indent + "  "))]


def _holder(holder: Mapping[str, Any]) -> str:
    name = f"{of(holder, 'app')} ({human_bytes(holder.get('used_bytes') or 0)})"
    return f"{name}, ended" if holder.get("ended_at") else name
