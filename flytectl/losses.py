"""Says in words where an app's data is, and what is lost when an app or a secret is deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flytectl.render import safe
from flyted.contract.quantity import human_bytes


def where_data_is(data: Mapping[str, Any]) -> str:
    """Return a text with the size and the folder of an app's data (``data`` of an APP)."""
    cache = f"; {human_bytes(data['cache_bytes'])} of cache" if data.get("cache_bytes") else ""
    return f"{_amount(data)}, {data.get('folder')}{cache}"


def of_app(name: str, found: Mapping[str, Any], *, keep_data: bool) -> str:
    """Return a line on what is lost with an app. ``found``: the daemon's answer to ``app.data``."""
    data = found.get("data")
    parts = [f"{_amount(data)}, {data.get('folder')}"] if data and not keep_data else []
    if found.get("known"):
        parts += [_counted(found.get("revisions") or 0, "revision")]
        parts += [_counted(found["tokens"], "token")] if found.get("tokens") else []
    else:
        parts.append("left from a deleted app")
    return f"  {safe(name)}: {safe('; '.join(parts))}"


def of_secret(secret: Mapping[str, Any]) -> str:
    """Return a line on the apps that use a secret."""
    apps = ", ".join(safe(app) for app in secret.get("apps") or ())
    said = f"used by {apps}, which cannot start again without it" if apps else "no app uses it"
    return f"  {safe(secret.get('key'))}: {said}"


def _amount(data: Mapping[str, Any]) -> str:
    least = "" if data.get("complete") else "at least "
    return f"{least}{human_bytes(data.get('bytes') or 0)} in {_counted(data.get('files') or 0, 'file')}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
