"""The ingress's frontend for calls between apps: who calls, whether it may, and what it is told if not. Pure.

It listens at one address of the apps' network (units/flyted-calls.socket), to which nothing but apps has a route. The
router ties each address to its app (flyted/net/plan.py), so the source address is the caller's identity, and stands
for a token: no header of the caller's counts. Only ``NAME.apps.internal`` is answered, never the API, the login's
pages or another name of an app.

HTTP without TLS: no packet leaves the kernel.
"""

from __future__ import annotations

from flyted.contract.names import INTERNAL_DOMAIN
from flyted.plan.ingress.auth import STRIPPED
from flyted.plan.ingress.inherited import for_calls, has_calls
from flyted.plan.ingress.request import FORM, NAMED
from flyted.plan.ingress.state import Listen

CONNECTIONS = 4000
"""The most connections of all apps together, half of those that the ingress has."""
AT_ONCE = 1024
"""The most requests at once of one replica, as many as it may have connections: HTTP/2 has many on each."""
WAIT_S = 2
"""Seconds that a caller waits whose address is not in the table yet, since its app has just begun to start."""
CALLER_NETWORKS = "198.18.4.0/22 198.18.8.0/22"  # flyted/net/plan.py: FIRST_CALLER to LAST_CALLER
NAMED_BY = (
    "name it in depends_on of the app's environment or in an AppEndpoint parameter, or serve the app with "
    "flytectl serve --may-call"
)

FRONT = r"""
@INHERITED@frontend internal
@INTERNAL_BINDS@
    maxconn @INTERNAL_CONNECTIONS@
    tcp-request inspect-delay @WAIT_S@s
    tcp-request content accept if !{ src @CALLER_NETWORKS@ } || { src,map(@FILES@/@CALLERS@) -m found } || WAIT_END
@NAMED@\
    http-request set-var(txn.caller) src,map(@FILES@/@CALLERS@)
    acl internal_name var(txn.host) -m reg '^[a-z0-9-]{1,63}[.]@INTERNAL_SUFFIX@$'
    http-request set-var(txn.name) var(txn.host),field(1,.) if internal_name
    http-request set-var(txn.call) src,concat(/,txn.name) if internal_name
    http-request set-var(txn.app) var(txn.call),map(@FILES@/@CALLS@) if internal_name
    # an app may have an id that is not made of its name in the usual way
    http-request set-var-fmt(txn.alias) %[var(txn.app),field(1,.)].@INTERNAL@
    http-request set-var(txn.app) var(txn.alias),map(@FILES@/@NAMES@)
    http-request set-var(txn.server) var(txn.app),map(@FILES@/@HOSTS@)
    http-request set-var(txn.unavailable) var(txn.app),map(@FILES@/@UNAVAILABLE@)
    http-request set-var(txn.status) int(421) unless internal_name
    http-request set-var-fmt(txn.why) "apps call apps at http://NAME.@INTERNAL@" unless internal_name
    acl refused var(txn.status) -m found
    http-request set-var(txn.status) int(403) if !refused !{ var(txn.app) -m found }
    http-request set-var-fmt(txn.why) "this app may not call app '%[var(txn.name)]': @NAMED_BY@ %[var(txn.name)]" \
if !{ var(txn.why) -m found } !{ var(txn.app) -m found }
    http-request set-var(txn.status) int(404) \
if !refused !{ var(txn.server) -m found } !{ var(txn.unavailable) -m found }
    http-request set-var-fmt(txn.why) "app '%[var(txn.name)]' is not served: flytectl serve FILE" \
if !{ var(txn.why) -m found } !{ var(txn.server) -m found } !{ var(txn.unavailable) -m found }
    http-request wait-for-body time 5s if refused
@REFUSALS@\
    acl own_pages always_false
    acl gateway always_false
    acl token_sent req.fhdr(authorization) -m reg @SHAPE@
    acl cookie_sent req.fhdr(cookie) -m reg @COOKIE@|@SHAPE@
    http-request return @BAD@ string "400: send Cookie once\n" if cookie_sent { req.fhdr_cnt(cookie) gt 1 }
    http-request track-sc1 src table at_once
    http-request return status 429 @TEXT@ hdr Retry-After 1 @OWN@ \
string "429: too many requests at once: @AT_ONCE@ of one app are allowed\n" if { sc1_conn_cur(at_once) gt @AT_ONCE@ }
@STRIPPED@@PATH_RULES@@DOWN@@ADDRESS@@PLAIN@\
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Flyte-App %[var(txn.caller)]
@POOL_RULES@@KEPT_RULES@@USE_KEPT@@USE_POOL@\
    default_backend @BACKEND@
@APP_ERRORS@
@END@"""

_REFUSAL = r"""    http-request return status @STATUS@ content-type application/json @OWN@ \
lf-string "{\"error\":\"%[var(txn.why),json(utf8s)]\"}\n" \
if { var(txn.status) -m int @STATUS@ } { req.fhdr(accept) -m sub application/json }
    http-request return status @STATUS@ @TEXT@ @OWN@ lf-string "@STATUS@: %[var(txn.why)]\n" \
if { var(txn.status) -m int @STATUS@ }
"""


def frontend(listen: Listen, address: str) -> str:
    """Return the frontend, which HAProxy leaves out if PID 1 has not passed its listener.

    ``address``: where HAProxy listens itself, in tests.
    """
    text = FRONT
    for name, value in {
        "@INHERITED@": "" if address else f"    .if {has_calls(listen)}\n",
        "@END@": "" if address else "    .endif\n",
        "@INTERNAL_BINDS@": f"    bind {address}" if address else for_calls(listen),
        "@NAMED@": FORM + NAMED,
        "@STRIPPED@": STRIPPED,
        "@REFUSALS@": "".join(_REFUSAL.replace("@STATUS@", status) for status in ("421", "403", "404")),
        "@INTERNAL_CONNECTIONS@": str(CONNECTIONS),
        "@WAIT_S@": str(WAIT_S),
        "@AT_ONCE@": str(AT_ONCE),
        "@CALLER_NETWORKS@": CALLER_NETWORKS,
        "@INTERNAL_SUFFIX@": INTERNAL_DOMAIN.replace(".", "[.]"),
        "@INTERNAL@": INTERNAL_DOMAIN,
        "@NAMED_BY@": NAMED_BY,
    }.items():
        text = text.replace(name, value)
    return text
