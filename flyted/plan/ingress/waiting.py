"""The ingress's rules about the line of an app: how many requests may wait for it. Pure.

HAProxy gives a server as many requests at once as its ``maxconn``; they wait in the app's socket while the app starts.
Those above it wait in HAProxy, each with a buffer (``tune.bufsize``): what more its client sends stays there. So a
limit of their number is a limit of their bytes, too. Whoever finds the line full is told at once to come again.

Sources: HAProxy's configuration.txt (``srv_queue``, ``queue``), RFC 9110 15.6.4 (503).
"""

from __future__ import annotations

from flyted.plan.ingress.reply import DOWN, OWN, TEXT
from flyted.plan.ingress.state import BACKEND

RETRY_S = 5
_FULL = r"""    # a full line answers at once
    http-request set-var-fmt(txn.unavailable) \
"@RETRY_S@ too many requests wait for \"%[var(txn.app),field(1,.)]\"" if { @WAITING@ ge @MOST@ }
    acl own_pages always_false
"""


def server_rules(most: int) -> str:
    """Return what the backend of apps with one replica has. ``most``: the longest line; 0: no limit."""
    return _rules(f"str({BACKEND}/),concat(,txn.server),srv_queue", most)


def pool_rules(most: int) -> str:
    """Return what each pool has, whose replicas share one line; as :func:`server_rules`."""
    return _rules("queue", most)


def _rules(waiting: str, most: int) -> str:
    if not most:
        return ""
    text = (_FULL + DOWN).replace("\\\n", "").replace("@OWN@", OWN).replace("@TEXT@", TEXT)
    return text.replace("@RETRY_S@", str(RETRY_S)).replace("@WAITING@", waiting).replace("@MOST@", str(most))
