"""The ingress's rules for what clients ask for by themselves: it neither wakes an app nor keeps it awake. Pure.

A browser asks for an icon, a crawler for robots.txt, a monitor for the page that its operator named. While an app is
awake they get its answer, otherwise the ingress's own: 503 with Retry-After. It is not 404, which is remembered:
Chromium asks for no icon again that it was told is not there, and a crawler that finds no robots.txt may visit every
page (RFC 9309 2.3.1.3), while one that gets 5xx must visit none (2.3.1.4).

A map says which servers and pools are awake. An app enters it when it serves, and leaves it before it is put to sleep.
HAProxy reads it from its file when it starts. The map changes nothing for other requests, so it may be behind: an app
that wakes while flyted does not run answers these paths when flyted runs again.

HAProxy writes into a second map how many answers of such requests each server has given. An app for which no other
requests have come is as idle as before (idle.py). An answer is counted when it begins, and only if the server gave it:
so never more than were started.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable

AWAKE, UNCOUNTED = "awake.map", "uncounted.map"
PATHS = ("/favicon.ico", "/robots.txt", "/apple-touch-icon*.png")
"""The paths where nothing else is set."""
RETRY_S = 60
MOST = 64
_PATH = re.compile(r"/[A-Za-z0-9/._~-]{0,127}(?:\*[A-Za-z0-9/._~-]{0,127})?")
_COUNT = re.compile(r"^0x[0-9a-f]+ (?P<server>[a-z0-9-]+) (?P<count>[0-9]{1,18})$", re.MULTILINE)

_TABLES = r"""    acl awake var(txn.server),map(@FILES@/@AWAKE@) -m found
    acl uncounted srv_name,map_str_int(@FILES@/@UNCOUNTED@) -m found
"""
"""HAProxy reads a map only if a rule has it, and flyted asks for these in any case."""
_RULES = r"""    # what clients ask for by themselves wakes no app
@PATHS@\
    acl asked_by_itself var(txn.no_wake) -m found
    http-request set-var(txn.no_wake) int(1) \
if no_wake_path { method GET HEAD } { var(txn.server) -m found } !own_pages
@QUIET@\
    http-request return status 503 @TEXT@ hdr Retry-After @RETRY_S@ @OWN@ \
lf-string "503: \"%[var(txn.app),field(1,.)]\" is not awake, and this path does not wake it; others do\n" \
if asked_by_itself !awake
    http-response set-var(txn.answers) srv_name,map_str_int(@FILES@/@UNCOUNTED@,0),add(1) if asked_by_itself
    http-response set-map(@FILES@/@UNCOUNTED@) %[srv_name] %[var(txn.answers)] if asked_by_itself
"""
_QUIET = "    http-request set-log-level silent if asked_by_itself !awake\n"


def checked(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of the setting. Raises :class:`InvalidInput` for one that is not valid, or is every path."""
    found = tuple(paths)
    if len(found) > MOST:
        raise InvalidInput(f"must be at most {MOST} paths")
    for path in found:
        if _PATH.fullmatch(path) is None:
            raise InvalidInput(
                f"{printable(path)} is not a path: it begins with /, has at most one *, which stands for any "
                "characters, and otherwise letters, digits and / . _ ~ -"
            )
        if not path.strip("/*"):
            raise InvalidInput(f"{path} is what visitors ask for: nothing would wake an app")
    return found


@lru_cache(maxsize=4)
def frontend_rules(paths: tuple[str, ...], files: str, *, log: bool = False) -> str:
    """Return what a frontend has before it chooses a backend. ``files``: the folder of maps.

    ``log``: log what is answered here, too.
    """
    text = _TABLES + (_RULES.replace("@PATHS@", _acl(paths)) if paths else "")
    for name, value in {
        "@QUIET@": "" if log else _QUIET,
        "\\\n": "",
        "@RETRY_S@": str(RETRY_S),
        "@FILES@": files,
        "@AWAKE@": AWAKE,
        "@UNCOUNTED@": UNCOUNTED,
    }.items():
        text = text.replace(name, value)
    return text


def _acl(paths: Sequence[str]) -> str:
    exact = [path for path in paths if "*" not in path]
    lines = [f"path -m str {' '.join(exact)}"] if exact else []
    lines += [f"path -m reg '{_regex(path)}'" for path in paths if "*" in path]
    return "".join(f"    acl no_wake_path {line}\n" for line in lines)


def _regex(path: str) -> str:
    return "^" + path.replace(".", "[.]").replace("*", ".*") + "$"


def parse_counts(text: str) -> dict[str, int]:
    """Return how many such answers each server has given, from ``show map`` of :data:`UNCOUNTED` among other text."""
    return {found["server"]: int(found["count"]) for found in _COUNT.finditer(text)}
