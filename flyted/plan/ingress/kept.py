"""The connections that the ingress keeps to apps for further requests. Pure.

A request that goes over a kept connection can meet its end: where an app ends, or has just closed it. A request on a
connection of its own cannot: PID 1 holds the app's socket, and what the app does not accept waits for its next start.
So each app has its server in a backend that keeps no connection, as ever, and while it is awake a *twin* of the same
name in one that does. A map says which servers' requests may go to the twins; :data:`RULES` takes what may be sent a
second time: GET, HEAD and OPTIONS without a body. HAProxy sends such a request once more if a kept connection ends
without an answer, as when the app is killed.

Only apps that never close an idle connection are kept (``KEEPS`` in launch/words.py): HAProxy always closes first,
after 1 second at most (measured: :data:`PURGE_MS` halves the idle ones). And an app that is to stop is first taken out
of the map; then its twin is put into maintenance, which closes the idle connections; then it is stopped
(``host/ingress.py``, ``end_kept``).

All files are written as if no app were kept: a restarted HAProxy keeps no connection until flyted says so.

An app that may have more than one replica is not kept: its load is counted in its pool (pools.py).

A twin stays, in maintenance, when its app sleeps, since its counters are the app's (``plan/idle.py``). It goes with
its server.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from flyted.contract.errors import InvalidInput
from flyted.plan.ingress.reply import HOST_COOKIES, app_errors
from flyted.plan.ingress.state import DEFAULT_TIMEOUT_MS, KEPT, TIMEOUTS, IngressState, Server, is_server

BACKEND = "kept"
PURGE_MS = 100
IDLE = 256
"""Idle connections that are kept to one replica."""
MAXCONN = 512
"""Requests at once over kept connections to one replica.

What exceeds it goes the usual way. With those of that way, connections are never more than the socket's backlog holds.
"""
RULES = r"""    # a request that may be sent twice goes over a kept connection, if its app is awake and keeps them
    acl kept_enough be_conn(@KEPT_BACKEND@) ge @KEPT_MAXCONN@
    http-request set-var(txn.kept) var(txn.server),map(@FILES@/@KEPT@) \
if { method GET HEAD OPTIONS } { var(txn.server) -m found } !kept_enough \
!{ req.fhdr(upgrade) -m found } !{ req.hdr_val(content-length) gt 0 } !{ req.fhdr(transfer-encoding) -m found } \
!{ req.fhdr(accept) -m sub -i text/event-stream }
"""
"""What a frontend has before it uses a backend. A stream gains nothing, and would hold a place for hours."""
USE = "    use_backend %[var(txn.kept)] if { var(txn.kept) -m found }\n"
"""What a frontend has before all other backends for apps."""
ONE_REQUEST = r"""    # one request, one connection to the app
    # `http-reuse never` alone keeps one for each client that keeps its own
    option http-server-close
    http-reuse never
"""
"""What a backend has that keeps no connection."""
_SECTION = r"""
backend @KEPT_BACKEND@ from usual
@APP_ERRORS@
    http-reuse always
    # never used to pick, as in the other one
    balance random
    # once more, if a kept connection has ended without an answer: only requests that may be sent twice get here
    retries 1
    retry-on conn-failure empty-response
    http-request set-timeout server var(txn.server),map_str_int(@FILES@/@TIMEOUTS@,@TIMEOUT@)
    # a cookie is for the host that set it: all apps are one site to a browser, and would get it
@HOST_COOKIES@
    use-server %[var(txn.server)] if { var(txn.server) -m found }
"""


@lru_cache(maxsize=4)
def frontend_rules(files: str) -> str:
    """Return what a frontend has before it chooses a backend; :data:`USE` follows. ``files``: the folder of maps."""
    text = RULES.replace("\\\n", "").replace("@KEPT_BACKEND@", BACKEND).replace("@KEPT_MAXCONN@", str(MAXCONN))
    return text.replace("@FILES@", files).replace("@KEPT@", KEPT)


@lru_cache(maxsize=4)
def backend(files: str) -> str:
    """Return the text of the backend that keeps connections, without servers. ``files``: the folder of maps."""
    text = _SECTION.replace("@HOST_COOKIES@", HOST_COOKIES.replace("\\\n", "")).replace("@APP_ERRORS@", app_errors())
    text = text.replace("@KEPT_BACKEND@", BACKEND).replace("@FILES@", files)
    return text.replace("@TIMEOUTS@", TIMEOUTS).replace("@TIMEOUT@", str(DEFAULT_TIMEOUT_MS))


def twin(name: str) -> str:
    """Return how HAProxy's commands name the twin of the server of this name."""
    return f"{BACKEND}/{name}"


def words(server: Server) -> str:
    """Return what follows the twin's name in ``add server``. The weight is as of the server itself (state.py)."""
    keeps = f"pool-purge-delay {PURGE_MS}ms pool-max-conn {IDLE}"
    return f"unix@{server.socket_path} maxconn {MAXCONN} weight 0 {keeps}"


def table(servers: Iterable[Server]) -> dict[str, str]:
    """Return the map: each server to which connections are kept → the backend."""
    return {server.name: BACKEND for server in servers if server.kept}


def checked(found: Mapping[str, str]) -> Mapping[str, str]:
    """Return the map as HAProxy has it. Raises :class:`InvalidInput` for one that flyted did not make."""
    if any(not is_server(name) or value != BACKEND for name, value in found.items()):
        raise InvalidInput(f"an entry of {KEPT} is not valid")
    return found


def without(state: IngressState, names: Collection[str]) -> IngressState:
    """Return the state with none of these servers kept."""
    changed = {n: replace(each, kept=False) for n in names if (each := state.servers.get(n)) is not None and each.kept}
    return replace(state, servers={**state.servers, **changed}) if changed else state


def after(twins: Mapping[str, bool], commands: Iterable[str]) -> dict[str, bool]:
    """Return the twins, and whether they take requests, once HAProxy has carried out these commands."""
    left = dict(twins)
    for command in commands:
        match command.split():
            case [("enable" | "set") as verb, "server", name, *_] if name.startswith(f"{BACKEND}/"):
                left[name] = verb == "enable"
            case ["del", "server", name]:
                left.pop(name, None)
    return left


def words_of(asked: Iterable[str]) -> str:
    """Return what of a server's words, which follow ``show stat``, finds its twin; "" if it has none."""
    return next((words for words in asked if words.startswith(f"{BACKEND} ")), "")
