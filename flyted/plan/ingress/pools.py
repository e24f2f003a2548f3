"""The pools of the ingress: the backends of apps that may have more than one replica. Pure.

HAProxy adds servers at run time, but no backends. So there are empty pools in its configuration, and an app that may
have more than one replica takes one. The hosts of its table lead to the pool's name in the place of a server's; no
server has such a name. ``leastconn`` gives a request to the replica that has the fewest (measured against random
choice: at most 4 of 12 requests at once at one of three replicas, instead of 8).

A replica that gets no new requests is in maintenance: what runs there goes on, what waited for it in the ingress goes
to another one. A browser of a ``--sticky`` app has a cookie with the name of its server. ``use-server`` finds names in
its own backend alone, and passes over one that is in maintenance or is not there: so the cookie opens nothing, and a
browser whose replica is gone gets another.

While an app has its least replicas and needs no others, flyted looks at no counter: HAProxy compares the requests that
its pool has, and those of the last second, with the ones that these replicas are for, and connects to flyted's socket
if there are more (:data:`LUA`; HAProxy's own language has no action that tells anybody anything). flyted ends the
connection. If it does not run, or does not accept, the request goes on at once.

An empty pool takes some 2 kB of HAProxy's memory: their rules are in a ``defaults`` section, which all of them share.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from flyted.plan.ingress import start_page, waiting
from flyted.plan.ingress.kept import ONE_REQUEST
from flyted.plan.ingress.reply import HOST_COOKIES
from flyted.plan.ingress.state import BACKEND, DEFAULT_TIMEOUT_MS, RATE, STICKY, TIMEOUTS, WATCHED, Server

POOLS = 100
"""The number of apps that may have more than one replica."""
COOKIE = "__Host-flyte-replica"
"""Its prefix as that of the login's cookie (contract/token.py): no other host can set it."""

CHOICE = r"""    # a pool chooses one of its replicas; a browser of a sticky app names the one that it had before
    acl pooled var(txn.server) -m reg ^pool-[0-9]+$
    http-request set-var(txn.sticky) var(txn.server),map(@FILES@/@STICKY@) if pooled
    http-request set-var(txn.replica) req.cook(@REPLICA_COOKIE@) if { var(txn.sticky) -m found }
    acl replica_sent req.fhdr(cookie) -m sub @REPLICA_COOKIE@
    http-request set-header cookie '%[req.fhdr(cookie),\
regsub("(^|;)[ \t]*@REPLICA_COOKIE@[ \t]*=[^;]*","",g),ltrim("; ")]' if { var(txn.sticky) -m found } replica_sent
    http-request del-header cookie if { var(txn.sticky) -m found } { req.fhdr(cookie) -m len 0 }
    http-response set-var(txn.chosen) srv_name if { var(txn.sticky) -m found }
    http-response add-header Set-Cookie \
"@REPLICA_COOKIE@=%[var(txn.chosen)]; Path=/; HttpOnly; Secure; SameSite=Lax" \
if { var(txn.chosen) -m found } !{ var(txn.replica),strcmp(txn.chosen) eq 0 }
"""
"""What a frontend has before it uses a backend for apps."""
USE = "    use_backend %[var(txn.server)] if pooled\n"
SECTION = r"""
defaults pools from usual
@ONE_REQUEST@    balance leastconn
    # a replica whose socket has just gone: its requests are tried at another one at once
    option redispatch 1
    http-request set-timeout server var(txn.server),map_str_int(@FILES@/@TIMEOUTS@,@TIMEOUT@)
@WAITING@    http-request set-var(txn.at_once) var(txn.server),map_str_int(@FILES@/@WATCHED@)
    http-request set-var(txn.a_second) var(txn.server),concat(@RATE@),map_str_int(@FILES@/@WATCHED@)
    http-request lua.more_load if { var(txn.at_once) -m found } { be_conn,sub(txn.at_once) ge 0 } \
|| { var(txn.a_second) -m found } { be_sess_rate,sub(txn.a_second) ge 0 }
    # a cookie is for the host that set it: all apps are one site to a browser, and would get it
@HOST_COOKIES@"""
"""What all pools have. HAProxy does not copy these rules for each of them."""
POOL = """
backend @NAME@ from pools
    use-server %[var(txn.replica)] if { var(txn.replica) -m found }
"""


LUA_FILE, TOLD = "load.lua", "load.sock"
"""The script, and flyted's socket (host/load.py), in the folder of HAProxy's files."""
LUA = """-- Written by flyted: tells it that an app has more requests than its replicas are for.
core.register_action("more_load", { "http-req" }, function()
    local told = core.tcp()
    told:settimeout(1)
    told:connect("unix@@FILES@/@TOLD@")
    told:close()
end)
"""


def pool_name(number: int) -> str:
    """Return the name of a pool in HAProxy."""
    return f"pool-{number}"


def backend_of(server: Server) -> str:
    """Return the name of the backend that a server is in."""
    return server.pool or BACKEND


def place(server: Server) -> str:
    """Return how HAProxy's commands name a server."""
    return f"{backend_of(server)}/{server.name}"


@lru_cache(maxsize=4)
def frontend_rules(files: str) -> str:
    """Return what a frontend needs to choose a replica; :data:`USE` follows where it chooses its backend.

    ``files``: the folder of the maps.
    """
    text = CHOICE.replace("\\\n", "").replace("@REPLICA_COOKIE@", COOKIE)
    return text.replace("@FILES@", files).replace("@STICKY@", STICKY)


@lru_cache(maxsize=4)
def empty_pools(files: str, most: int) -> tuple[str, ...]:
    """Return the text of all pools: what they share, then each without its servers. ``most``: as in waiting.py."""
    shared = SECTION.replace("@HOST_COOKIES@", HOST_COOKIES.replace("\\\n", "")).replace("@FILES@", files)
    shared = shared.replace("@WATCHED@", WATCHED).replace("@RATE@", RATE).replace("\\\n", "")
    shared = (
        shared.replace("@ONE_REQUEST@", ONE_REQUEST)
        .replace("@WAITING@", waiting.pool_rules(most))
        .replace("@TIMEOUTS@", TIMEOUTS)
        .replace("@TIMEOUT@", str(DEFAULT_TIMEOUT_MS))
    )
    return (shared, *(POOL.replace("@NAME@", pool_name(number)) for number in range(POOLS)))


def filled_pools(files: str, most: int, servers: Iterable[Server]) -> str:
    """Return the text of all pools with these of their servers. ``most``: as in waiting.py."""
    shared, *pools = empty_pools(files, most)
    lines: dict[str, str] = {}
    for server in servers:
        lines[server.pool] = lines.get(server.pool, "") + server.line
    texts = (text + lines.get(pool_name(number), "") for number, text in enumerate(pools)) if lines else pools
    return "".join((shared, *texts))


def script(files: str) -> str:
    """Return the script for HAProxy. ``files``: the folder of its files."""
    return LUA.replace("@FILES@", files).replace("@TOLD@", TOLD) + start_page.script(files)
