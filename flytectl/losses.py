"""Where an app's data is and how much of it, and what is lost with an app or a secret that is deleted: in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flytectl.render import safe
from flyted.contract.quantity import human_bytes


def where_data_is(data: Mapping[str, Any]) -> str:
    """Where an app keeps what it writes, and how much that is (``data`` of an APP)."""
    cache = f"; {human_bytes(data['cache_bytes'])} of cache" if data.get("cache_bytes") else ""
    return f"{_amount(data)}, {data.get('folder')}{cache}"


def of_app(name: str, found: Mapping[str, Any], *, keep_data: bool) -> str:
    """What is lost with an app, in one line. ``found`` is the daemon's answer to ``app.data``."""
    data = found.get("data")
    parts = [f"{_amount(data)}, {data.get('folder')}"] if data and not keep_data else []
    if found.get("known"):
        parts += [_counted(found.get("revisions") or 0, "revision")]
        parts += [_counted(found["tokens"], "token")] if found.get("tokens") else []
    else:
        parts.append("kept from an app that is deleted already")
    return f"  {safe(name)}: {safe('; '.join(parts))}"


def of_secret(secret: Mapping[str, Any]) -> str:
    """Who uses a secret, in one line."""
    apps = ", ".join(safe(app) for app in secret.get("apps") or ())
    said = f"used by {apps}, which cannot start any more without it" if apps else "no app uses it"
    return f"  {safe(secret.get('key'))}: {said}"


def _amount(data: Mapping[str, Any]) -> str:
    least = "" if data.get("complete") else "at least "
    return f"{least}{human_bytes(data.get('bytes') or 0)} in {_counted(data.get('files') or 0, 'file')}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
