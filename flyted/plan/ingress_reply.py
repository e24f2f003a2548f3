"""What the ingress says to clients itself, and what it changes in an app's answer. Pure.

A sentence for a stranger names the app, which the stranger named before, and where its operator finds the reason.
"""

from __future__ import annotations

_HOST_COOKIE = r"""    http-response replace-header Set-Cookie '(?i)^([^;]*.*);[ \t]*domain[ \t]*=[^;]*(.*)$' '\1\2'
"""
"""The last Domain= goes (RFC 6265 5.2: attributes are parted by semicolons, quotes mean nothing)."""
HOST_COOKIES = (
    3 * _HOST_COOKIE
    + r"""    http-response del-header Set-Cookie \
if { res.fhdr(set-cookie) -m reg -i ';[ \t]*domain[ \t]*=' }
"""
)
OWN = (
    "hdr Cache-Control no-store hdr X-Content-Type-Options nosniff hdr Access-Control-Allow-Origin * "
    'hdr Access-Control-Expose-Headers "Retry-After, WWW-Authenticate"'
)
"""Of an answer of ours that says no more than its status: a script of another origin may read it."""
TEXT = 'content-type "text/plain; charset=utf-8"'
_NAME = "%[var(txn.host),field(1,.)]"
_LIMIT_S = "%[var(txn.server),map_str_int(@FILES@/@TIMEOUTS@,@TIMEOUT@),div(1000)]"
_BROKEN = "this request broke off, came too slowly or is not valid HTTP"
_ERRORS = {
    400: _BROKEN,
    408: "the request did not come in time",
    500: "the ingress failed",
    502: f'\\"{_NAME}\\" broke off before it had answered, or its answer is not valid HTTP or has too large headers; '
    f"its operator can see why: flytectl app get {_NAME}",
    503: f'\\"{_NAME}\\" cannot serve now; its operator can see why: flytectl app get {_NAME}',
    504: f'\\"{_NAME}\\" did not answer within {_LIMIT_S} s; '
    "its operator can allow more: Timeouts(request=...) in the app's file",
}
_RETRY = {503}


def errors() -> str:
    """A line for each failure that HAProxy itself finds."""
    return "\n".join(_error(status, why) for status, why in _ERRORS.items())


def _error(status: int, why: str) -> str:
    number = "" if why == _BROKEN else f"{status}: "  # it may become a 408
    again = " hdr Retry-After 5" if status in _RETRY else ""
    return f'    http-error status {status} {TEXT}{again} {OWN} lf-string "{number}{why}\\n"'
