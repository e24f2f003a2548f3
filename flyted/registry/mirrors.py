"""Asks mirrors whether they are registries, several at a time, and tells what each one answers."""

from __future__ import annotations

import functools
import json
import queue
import threading
import time

from .client import followed
from .failed import Failed, Untrusted, printable, say
from .http_get import Reply
from .logins import Authorization, Login
from .reach import Reach
from .url import Url
from .words import ANSWERS, CHECK_S, EX_NOPERM, LOGIN, OTHER, UNREACHABLE, UNTRUSTED

_AT_A_TIME = 16
_MOST_ANSWER = 1 << 16
_VERSION = "Docker-Distribution-Api-Version"


def check(reach: Reach, seconds: float = CHECK_S) -> None:
    """Print a line for each mirror (words.py), not later than after ``seconds``. No login is used."""
    todo = queue.SimpleQueue[str]()
    for name in reach.mirrors:
        todo.put(name)
    found: dict[str, tuple[str, str]] = {}
    threads = [
        threading.Thread(target=_work, args=(reach, todo, found), daemon=True)
        for _ in range(min(_AT_A_TIME, len(reach.mirrors)))
    ]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    for name, mirror in sorted(reach.mirrors.items()):
        how, text = found.get(name, (UNREACHABLE, f"{mirror.server} does not answer"))
        say(f"mirror {name} {how}: {text}")


def _work(reach: Reach, todo: queue.SimpleQueue[str], found: dict[str, tuple[str, str]]) -> None:
    while True:
        try:
            name = todo.get_nowait()
        except queue.Empty:
            return
        found[name] = _asked(reach, reach.mirrors[name])


def _asked(reach: Reach, mirror: Url) -> tuple[str, str]:
    """Return what a mirror answers to ``GET /v2/``, by which a registry says that it is one (distribution-spec)."""
    url = Url(mirror.scheme, mirror.host, mirror.port, "/v2/")
    try:
        with followed(reach, url, {}) as reply:
            return _meaning(reach, url, reply)
    except Untrusted as failure:
        return UNTRUSTED, str(failure)
    except Failed as failure:
        return UNREACHABLE, str(failure)


def _meaning(reach: Reach, url: Url, reply: Reply) -> tuple[str, str]:
    server, status = url.server, reply.status
    if status == 200 and _is_registry(reply):
        return ANSWERS, f"{server} answers"
    if status == 401:
        return _without_login(reach, url, reply)
    if status == 403:
        return LOGIN, f"{server} refuses those who have no login"
    if status == 429 or status >= 500:
        return UNREACHABLE, f"{server} answers {status}"
    return OTHER, f"{server} is not a registry: it answers {status} to /v2/"


def _without_login(reach: Reach, url: Url, reply: Reply) -> tuple[str, str]:
    """Return whether one gets a token without a login: then what everybody may have can be pulled."""
    tokens = Authorization(url, "", Login(), functools.partial(followed, reach))
    try:
        tokens.renew(reply.headers.get_all("WWW-Authenticate") or [], "")
    except Failed as failure:
        if failure.status == EX_NOPERM:
            return LOGIN, f"{url.server} requires a login"
        return UNREACHABLE, printable(str(failure))
    return ANSWERS, f"{url.server} answers"


def _is_registry(reply: Reply) -> bool:
    """Report whether this is the answer of a registry, not the page of another server."""
    if _VERSION in reply.headers:
        return True
    body = reply.body(_MOST_ANSWER)
    try:
        return not body or isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False
