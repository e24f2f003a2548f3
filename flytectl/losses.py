"""Says in words where an app's data is, and what is lost when an app or a secret is deleted."""

from __future__ import annotations

from flytectl.render import safe
from flyted.contract.answers.apps import AppFolder, Kept
from flyted.contract.answers.secrets import SecretStatus
from flyted.contract.quantity import human_bytes


def where_data_is(data: AppFolder) -> str:
    """Return a text with the size and the folder of an app's data."""
    cache = f"; {human_bytes(data.cache_bytes)} of cache" if data.cache_bytes else ""
    return f"{_amount(data)}, {data.folder}{cache}"


def of_app(name: str, found: Kept, *, keep_data: bool) -> str:
    """Return a line on what is lost with an app."""
    parts = [f"{_amount(found.data)}, {found.data.folder}"] if found.data and not keep_data else []
    if found.known:
        parts += [_counted(found.revisions, "revision")]
        parts += [_counted(found.tokens, "token")] if found.tokens else []
    else:
        parts.append("left from a deleted app")
    return f"  {safe(name)}: {safe('; '.join(parts))}"


def of_secret(secret: SecretStatus) -> str:
    """Return a line on the apps that use a secret."""
    apps = ", ".join(safe(app) for app in secret.apps or ())
    said = f"used by {apps}, which cannot start again without it" if apps else "no app uses it"
    return f"  {safe(secret.key)}: {said}"


def _amount(data: AppFolder) -> str:
    least = "" if data.complete else "at least "
    return f"{least}{human_bytes(data.bytes)} in {_counted(data.files, 'file')}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
