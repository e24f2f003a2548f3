"""The hint about certificates: where the SDK hides the reason, and nowhere else."""

from __future__ import annotations

import click
import pytest

from flyted.companion import certificates

RUST = "client error (Connect): invalid peer certificate: UnknownIssuer"
PYTHON = (
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1)"
)


@pytest.mark.parametrize("text", [RUST, PYTHON])
def test_both_libraries_of_the_sdk_are_understood(text: str) -> None:
    """The one that calls and the one that uploads."""
    assert certificates.hint_for(RuntimeError(text)) == certificates.HINT


def test_a_reason_behind_another_error_is_found() -> None:
    """ "Service is unavailable" is all that the SDK shows; its cause says more."""
    error = RuntimeError("Service is unavailable.")
    error.__cause__ = ConnectionError(RUST)
    assert certificates.hint_for(error) == certificates.HINT


def test_other_errors_stay_as_they_are() -> None:
    """Same object, no hint; an error that is its own cause ends as well."""
    error = click.ClickException("Requested object NOT FOUND.")
    error.__context__ = RuntimeError("x")
    error.__context__.__context__ = error
    with pytest.raises(click.ClickException) as raised:
        certificates.explained(lambda: _raise(error))
    assert raised.value is error


def test_a_command_says_what_happened_and_what_to_type() -> None:
    """Also where the SDK's command would end with a traceback."""
    with pytest.raises(click.ClickException) as raised:
        certificates.explained(lambda: _raise(RuntimeError(RUST)))
    assert RUST in raised.value.message
    for word in ("flytectl config init", "flytectl ca install", "SSL_CERT_FILE"):
        assert word in raised.value.message


def _raise(error: Exception) -> None:
    raise error
