"""The ingress's rules about the line of an app: how many requests may wait for it. Pure.

HAProxy gives a server as many requests at once as its ``maxconn``; they wait in the app's socket while the app starts.
Those above it wait in HAProxy, each with a buffer (``tune.bufsize``): what more its client sends stays there. So a
limit of their number is a limit of their bytes, too. Whoever finds the line full is told at once to come again.

Sources: HAProxy's configuration.txt (``srv_queue``, ``queue``), RFC 9110 15.6.4 (503).
"""

from __future__ import annotations

from flyted.plan.ingress.reply import OWN, TEXT
from flyted.plan.ingress.state import BACKEND

RETRY_S = 5
_WHY = "too many requests wait for"
_NAME = "%[var(txn.app),field(1,.)]"
_FULL = r"""    # a full line answers at once
    acl full_line @WAITING@ ge @MOST@
    http-request return status 503 content-type application/json hdr Retry-After @RETRY_S@ @OWN@ \
lf-string "{\"error\":\"@WHY@ @NAME@\"}\n" if full_line { req.hdr(accept) -m sub application/json }
    http-request return status 503 @TEXT@ hdr Retry-After @RETRY_S@ @OWN@ \
lf-string "503: @WHY@ \"@NAME@\"\n" if full_line
"""
_AT_SERVER = f"str({BACKEND}/),concat(,txn.server),srv_queue"
_IN_POOL = "queue"


def server_rules(most: int) -> str:
    """Return what the backend of apps with one replica has. ``most``: the longest line; 0: no limit."""
    return _rules(_AT_SERVER, most)


def pool_rules(most: int) -> str:
    """Return what each pool has, whose replicas share one line; as :func:`server_rules`."""
    return _rules(_IN_POOL, most)


def _rules(waiting: str, most: int) -> str:
    if not most:
        return ""
    text = _FULL
    for name, value in {
        "\\\n": "",
        "@WAITING@": waiting,
        "@MOST@": str(most),
        "@RETRY_S@": str(RETRY_S),
        "@WHY@": _WHY,
        "@NAME@": _NAME,
        "@OWN@": OWN,
        "@TEXT@": TEXT,
    }.items():
        text = text.replace(name, value)
    return text
