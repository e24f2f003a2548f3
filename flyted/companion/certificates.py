"""What to type when the certificate of a flyted is not trusted: the SDK only says that it is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

_UNTRUSTED = re.compile(
    r"UnknownIssuer|invalid peer certificate|CERTIFICATE_VERIFY_FAILED|certificate verify failed|self.signed cert",
    re.IGNORECASE,
)
HINT = (
    "flyted's certificate is not trusted by this configuration. Write it anew: flytectl config init --force,"
    " and for other programs: sudo flytectl ca install;"
    " export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"
)


def hint_for(text: str) -> str:
    """The hint, when ``text`` is an error about a certificate that nobody trusts; else ""."""
    return HINT if _UNTRUSTED.search(text) else ""


def explained(command: Callable[[], Any]) -> Any:
    """Runs a command of ``flyte``, and adds the hint to such an error of it."""
    try:
        return command()
    except click.ClickException as error:
        hint = hint_for(error.message)
        if not hint:
            raise
        raise click.ClickException(f"{error.message}\n\n{hint}") from error
