"""Describes what is lost when an app or a secret is deleted."""

from __future__ import annotations

from flytectl.render import amount, counted, safe
from flyted.contract.answers.apps import Kept
from flyted.contract.answers.secrets import SecretStatus


def of_app(name: str, found: Kept, *, keep_data: bool) -> str:
    """Return a line on what is lost with an app."""
    parts = [f"{amount(found.data)}, {found.data.folder}"] if found.data and not keep_data else []
    if found.known:
        parts += [counted(found.revisions, "revision")]
        parts += [counted(found.tokens, "token")] if found.tokens else []
    else:
        parts.append("left from a deleted app")
    return f"  {safe(name)}: {safe('; '.join(parts))}"


def of_secret(secret: SecretStatus) -> str:
    """Return a line on who uses a secret."""
    apps, images, settings = (
        ", ".join(map(safe, each or ())) for each in (secret.apps, secret.images, secret.settings)
    )
    parts = [f"used by {apps}, which cannot start again without it"] if apps else []
    parts += [f"needed by the image of {images}, which cannot be served again without it"] if images else []
    parts += [f"named in flyted.toml for all images: {settings}"] if settings else []
    return f"  {safe(secret.key)}: {'; '.join(parts) or 'no app uses it'}"


def of_data(name: str, found: Kept) -> str:
    """Return a line on the data that is lost with the folder of an app."""
    parts = [f"{amount(found.data)}, {found.data.folder}"] if found.data else ["nothing"]
    parts += [] if found.known else ["left from a deleted app"]
    return f"  {safe(name)}: {safe('; '.join(parts))}"
