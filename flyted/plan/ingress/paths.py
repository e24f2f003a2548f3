"""The ingress's rules for apps that check a key themselves, but not on every path. Pure.

vLLM asks for its key on /v1, but not on /invocations, which answers the same. So of a restricted host the ingress
opens only the paths that are listed for it. It compares the path as the app will see it: nothing is decoded or
normalised. So a path that an app might read in another way (``%2e``, ``//``, ``/./``, ``;``) is refused, whatever is
open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from flyted.contract.app import OPEN_PATH

RESTRICTED, OPEN_PATHS = "restricted.map", "open-paths.map"
OPEN = "open"
KEY = re.compile(rf"(?P<host>[a-z0-9.-]{{1,253}})(?P<path>{OPEN_PATH.pattern})/")
"""A key of the table of open paths: the host, and a path with a slash at its end, so that /v1 does not open /v1x."""
CLOSED = "this path is not public: the API key of this app does not protect it; its operator can open it: --open-path"

RULES = r"""    acl restricted var(txn.app),map(@FILES@/@RESTRICTED@) -m found
    acl open_path var(txn.app),concat(,txn.path,/),map_beg(@FILES@/@OPEN_PATHS@) -m found
    # one way to read it: segments that begin with no dot, of plain characters
    acl plain_path var(txn.path) -m reg '^(/[A-Za-z0-9_~!$&()*+,=:-][A-Za-z0-9._~!$&()*+,=:-]*)+/?$'
    # the same as for the guard's 401
    http-request wait-for-body time 5s if restricted !own_pages !open_path || restricted !own_pages !plain_path
    http-request return status 403 content-type application/json @OWN@ \
string "{\"error\":\"@CLOSED@\"}\n" \
if restricted !own_pages !open_path { req.fhdr(accept) -m sub application/json } \
|| restricted !own_pages !plain_path { req.fhdr(accept) -m sub application/json }
    http-request return status 403 @TEXT@ @OWN@ \
string "403: @CLOSED@\n" \
if restricted !own_pages !open_path || restricted !own_pages !plain_path
"""


def keys(host: str, paths: Iterable[str]) -> dict[str, str]:
    """Return the entries of the table of open paths for one host. ``paths``: as ``/v1``, each with all below it."""
    return {f"{host}{path}/": OPEN for path in paths}


def host_of(key: str) -> str:
    """Return the host in a key of the table of open paths."""
    return key.partition("/")[0]


def filled(text: str) -> str:
    """Return the rules with the names of our maps filled in."""
    return text.replace("@RESTRICTED@", RESTRICTED).replace("@OPEN_PATHS@", OPEN_PATHS).replace("@CLOSED@", CLOSED)
