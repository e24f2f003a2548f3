"""The ingress's own answers to clients, and its changes to an app's answer. Pure.

An answer to a stranger names the app, which the stranger has named already, and says where its operator finds the
reason.

HAProxy has error pages of its own for what it cannot read as a request: 400, 408 for headers that do not end, 413, 422
for an encoding that it does not know, 501 for an upgrade with a body. Up to 3.2 they are compiled in (mux_h1.c,
``h1_send_error``): no configuration changes them; the only alternative is to leave such a client without an answer.
"""

from __future__ import annotations

_HOST_COOKIE = r"""    http-response replace-header Set-Cookie '(?i)^([^;]*.*);[ \t]*domain[ \t]*=[^;]*(.*)$' '\1\2'
"""
"""Removes the last Domain= (RFC 6265 5.2: semicolons separate attributes, quotes have no meaning)."""
HOST_COOKIES = (
    3 * _HOST_COOKIE
    + r"""    http-response replace-header Set-Cookie '(?i)^().*;[ \t]*domain[ \t]*=.*$' '\1'
"""
)
"""Removes up to three Domain= of a cookie. A cookie with more is emptied, which sets nothing; other cookies stay."""
OWN = (
    "hdr Cache-Control no-store hdr X-Content-Type-Options nosniff hdr Access-Control-Allow-Origin * "
    'hdr Access-Control-Expose-Headers "Retry-After, WWW-Authenticate"'
)
"""Headers of the ingress's own answers, which say no more than their status: any origin's script may read them."""
TEXT = 'content-type "text/plain; charset=utf-8"'
DOWN = r"""    http-request return status 503 content-type application/json \
hdr Retry-After %[var(txn.unavailable),word(1,' ')] @OWN@ \
lf-string "{\"error\":\"%[var(txn.unavailable),word(2,' ',0),json(utf8s)]\"}\n" \
if { var(txn.unavailable) -m found } !own_pages { req.hdr(accept) -m sub application/json }
    http-request return status 503 @TEXT@ hdr Retry-After %[var(txn.unavailable),word(1,' ')] @OWN@ \
lf-string "503: %[var(txn.unavailable),word(2,' ',0)]\n" \
if { var(txn.unavailable) -m found } !own_pages
"""
"""Answers a request for an app that is not available: ``txn.unavailable`` has the seconds of Retry-After, then why.

``own_pages`` is an acl of the section that has this.
"""
_NAME = "%[var(txn.app),field(1,.)]"
_LIMIT_S = "%[var(txn.server),map_str_int(@FILES@/@TIMEOUTS@,@TIMEOUT@),div(1000)]"
_BROKEN = "this request was incomplete, too slow or not valid HTTP"
_BROKE_OFF = "closed the connection before it answered"
_INVALID = "gave an answer that is not valid HTTP or has headers that are too large"
_WHO_ENDED = (
    f"%[txn.sess_term_state,regsub('^S.*','{_BROKE_OFF}'),regsub('^P.*','{_INVALID}'),"
    "regsub('^[A-Z].*','gave no complete answer')]"
)
"""Says who ended a request, by the log's termination state (configuration.txt, 8.5): S the server, P the proxy itself.

It must never be in ``defaults``: HAProxy does not compile the expressions there, and 3.0 crashes at their first use.
"""
_NO_H2 = "%[bc_http_major,div(2),iif(', or does not speak HTTP/2 on a port named h2c',)]"
_REQUEST = {400: _BROKEN, 408: "the request did not come in time", 500: "the ingress failed"}


def errors() -> str:
    """Return an ``http-error`` line for each failure that HAProxy itself finds in a request that it could read."""
    return "\n".join(_error(status, why) for status, why in _REQUEST.items())


def app_errors() -> str:
    """Return an ``http-error`` line for each failure of an app."""
    app, see = f'\\"{_NAME}\\"', f"its operator can see why: flytectl app get {_NAME}"
    lines = [
        "    .if version_atleast(3.0)",
        _error(502, f"{app} {_WHO_ENDED}{_NO_H2}; {see}"),
        "    .else",
        _error(502, f"{app} {_BROKE_OFF}, or {_INVALID}{_NO_H2}; {see}"),
        "    .endif",
        _error(503, f"{app} cannot serve now; {see}"),
        _error(
            504,
            f"{app} did not answer within {_LIMIT_S} s; "
            "its operator can allow more: Timeouts(request=...) in the app's file",
        ),
    ]
    return "\n".join(lines)


def gateway_errors() -> str:
    """Return an ``http-error`` line for each failure of flyted's own pages and of Flyte's API."""
    why = {502: _BROKE_OFF, 503: "cannot serve now", 504: "did not answer in time"}
    see = "its operator can see why: journalctl -u flyted-gateway"
    return "\n".join(_error(status, f"flyted's gateway {words}; {see}") for status, words in why.items())


def _error(status: int, why: str) -> str:
    number = "" if why == _BROKEN else f"{status}: "  # this 400 may become a 408
    again = " hdr Retry-After 5" if status == 503 else ""
    return f'    http-error status {status} {TEXT}{again} {OWN} lf-string "{number}{why}\\n"'
