"""Says what to type when the certificate of a flyted is not trusted: the SDK only says that it is not."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

import click

from .aside import around, say

_UNTRUSTED = re.compile(
    r"UnknownIssuer|invalid peer certificate|CERTIFICATE_VERIFY_FAILED|certificate verify failed|self.signed cert",
    re.IGNORECASE,
)
HINT = (
    "this configuration does not trust flyted's certificate. Write a new one: flytectl config init --force;"
    " for other programs: sudo flytectl ca install;"
    " export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"
)


def hint_for(error: BaseException) -> str:
    """Return the hint if the error, or one that led to it, is about a certificate that is not trusted; else ""."""
    seen: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in seen:
        seen.append(step)
        if _UNTRUSTED.search(getattr(step, "message", "") or str(step)):
            return HINT
        step = step.__cause__ or step.__context__
    return ""


def explained(command: Callable[[], Any]) -> Any:
    """Run a command of ``flyte``. Raise click.ClickException with the hint for an error about the certificate.

    Other errors are raised as they are.
    """
    try:
        return command()
    except Exception as error:
        hint = hint_for(error)
        if not hint:
            raise
        said = error.message if isinstance(error, click.ClickException) else str(error)
        raise click.ClickException(f"{said}\n\n{hint}") from error


def explain_in_scripts(ours: Callable[[], bool]) -> None:
    """Print the hint below the traceback of a script that ends with an error about the certificate.

    ``ours`` is called at that time; the hint is printed only if it returns True.
    """

    def make(old: Callable[..., None]) -> Callable[..., None]:
        def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
            old(kind, error, traceback)
            hint = hint_for(error)
            if hint and ours():
                say(hint)

        return excepthook

    around(sys, "excepthook", make)
