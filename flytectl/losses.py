"""Says in words what is lost when an app or a secret is deleted."""

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
    """Return a line on the apps that use a secret."""
    apps = ", ".join(safe(app) for app in secret.apps or ())
    said = f"used by {apps}, which cannot start again without it" if apps else "no app uses it"
    return f"  {safe(secret.key)}: {said}"
