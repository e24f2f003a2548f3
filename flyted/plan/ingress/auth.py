"""The ingress's rules for apps that require a token (``requires_auth``), for HAProxy to evaluate by itself. Pure.

The ingress itself answers a client without a valid token, so that such a client wakes no app and learns nothing about
it. A program sends ``Authorization: Bearer``, or the same as ``X-Flyte-Authorization`` if the app uses the former
itself; a browser sends the cookie that the gateway gave it. No app ever sees a token of flyted: tokens are recognised
by their shape and removed, also for apps that require none.

A browser asks without credentials whether a script of another origin may send a request (a preflight). The ingress
answers that too, with yes: the request itself still needs a token, which no browser adds to it, and the app decides
who may read the answer. So a preflight wakes no app.

Sources: RFC 6750 (Bearer), RFC 9110 11.6 (WWW-Authenticate), RFC 6265 (Cookie), Fetch 4.8 (CORS-preflight fetch);
HAProxy's configuration.txt.
"""

from __future__ import annotations

from flyted.contract.token import COOKIE, SHAPE

GUARDED, TOKENS = "guarded.map", "tokens.map"
USES, USES_KEPT_S = "token_uses", 10 * 86400
"""HAProxy's table of the last use of each token, by digest, in memory (show table), and the seconds it is kept."""
OWN_PATH = "/.flyted/"
"""The path below which the gateway answers on every app's host: there a browser gets its cookie for that host."""
LONGEST_NEXT = 1024
"""The most characters of an address to which the login returns: it has to fit into a header, at 3 bytes for each."""
SIGN_IN = (
    "sign in: a browser with flytectl login, a program with Authorization: Bearer and the output of flytectl token"
)
API_SIGN_IN = (
    "a valid token is required; on the machine of flyted: flytectl config init --for-other-machine NAME --force"
)
"""What callers of the API from other machines read, as an error of the Connect protocol."""

RULES = r"""    http-request set-var(txn.guarded) var(txn.app),map(@FILES@/@GUARDED@)
    # from other machines, only uploads reach the gateway without a token; no token for one app is for "."
    http-request set-var(txn.guarded) str(.) if { var(txn.app) -m str @GATEWAY@ } !{ var(txn.host) -m str @GATEWAY@ }
    http-request unset-var(txn.guarded) if { var(txn.guarded) -m str . } { path_beg /upload/ } { method PUT }
    http-request unset-var(txn.guarded) if { var(txn.authority) -m found }
    acl guarded var(txn.guarded) -m found
    acl gateway var(txn.app) -m str @GATEWAY@
    # the login's pages and cookies are at the machine's own names alone, and for clients on it
    acl own_name var(txn.app),strcmp(txn.host) eq 0
    http-request set-var(txn.own_pages) int(1) if { path_beg @OWN_PATH@ } own_name @LOCAL@
    acl own_pages var(txn.own_pages) -m found
    acl token_sent req.fhdr(authorization) -m reg @SHAPE@
    acl own_header req.fhdr(x-flyte-authorization) -m found
    acl cookie_sent req.fhdr(cookie) -m reg @COOKIE@|@SHAPE@
    # two of either could be read in two ways
    http-request return @BAD@ string "400: send Authorization once\n" if guarded { req.fhdr_cnt(authorization) gt 1 }
    http-request return @BAD@ string "400: send X-Flyte-Authorization once\n" \
if guarded { req.fhdr_cnt(x-flyte-authorization) gt 1 }
    http-request return @BAD@ string "400: send Cookie once\n" if cookie_sent { req.fhdr_cnt(cookie) gt 1 }
    # what was sent: a bearer token, ours before the one that may be the app's, or else a browser's cookie
    http-request set-var(txn.bearer) str(-) if guarded own_header
    http-request set-var(txn.bearer) req.fhdr(x-flyte-authorization),word(2,' ') \
if guarded { req.fhdr(x-flyte-authorization) -m reg -i '^bearer +@SHAPE@$' }
    http-request set-var(txn.bearer) req.fhdr(authorization),word(2,' ') \
if guarded !own_header { req.fhdr(authorization) -m reg -i '^bearer +@SHAPE@$' }
    http-request set-var(txn.cookie) req.cook(@COOKIE@) if guarded { req.cook_cnt(@COOKIE@) eq 1 }
    acl by_bearer var(txn.bearer) -m found
    acl by_cookie var(txn.cookie) -m found
    http-request set-var(txn.digest) var(txn.bearer),sha2(256),hex,lower if by_bearer
    http-request set-var(txn.digest) var(txn.cookie),sha2(256),hex,lower if !by_bearer by_cookie
    http-request set-var(txn.grant) var(txn.digest),map(@FILES@/@TOKENS@) if { var(txn.digest) -m found }
    # "<expires> <app or *> <user>"; a cookie is for one app only
    http-request set-var(txn.now) date
    http-request set-var(txn.left) var(txn.grant),word(1,' '),sub(txn.now) if { var(txn.grant) -m found }
    http-request set-var(txn.for) var(txn.grant),word(2,' ') if { var(txn.left) -m int gt 0 }
    http-request set-var(txn.user) var(txn.grant),word(3,' ') if { var(txn.for),strcmp(txn.guarded) eq 0 }
    http-request set-var(txn.user) var(txn.grant),word(3,' ') if by_bearer { var(txn.for) -m str * }
    acl known var(txn.user) -m found
    http-request track-sc2 var(txn.digest) table @USES@ if known
    acl reading method GET HEAD
    acl socket req.fhdr(upgrade) -m found
    # all apps are one site to a browser, so SameSite= does not keep one from acting in another's name
    acl elsewhere req.fhdr(sec-fetch-site) -m str cross-site same-site
    http-request set-var-fmt(txn.here) https://%[req.fhdr(host),lower]
    acl at_home req.fhdr(origin),lower,strcmp(txn.here) eq 0
    http-request return status 403 @TEXT@ @OWN@ string "403: another site asked for this\n" \
if guarded known !by_bearer elsewhere !reading || guarded known !by_bearer elsewhere socket \
|| guarded known !by_bearer { req.fhdr(origin) -m found } !at_home !reading \
|| guarded known !by_bearer { req.fhdr(origin) -m found } !at_home socket
    # a person at a browser is sent to the login, and comes back
    http-request set-var(txn.next) pathq
    http-request set-var(txn.next) str(/) if { pathq,length gt @LONGEST_NEXT@ }
    http-request return status 302 @TEXT@ hdr Cache-Control no-store hdr Location \
"https://@GATEWAY@%[var(txn.port)]/login?app=%[var(txn.host)]&next=%[var(txn.next),url_enc]" \
lf-string "302: sign in at https://@GATEWAY@%[var(txn.port)]/login\n" \
if guarded !known !own_pages own_name reading !socket { req.fhdr(accept) -m sub text/html } \
!{ req.fhdr(authorization) -m found } !own_header
    http-request return status 204 hdr Cache-Control no-store hdr Access-Control-Allow-Origin * \
hdr Access-Control-Allow-Methods %[req.fhdr(access-control-request-method)] \
hdr Access-Control-Allow-Headers %[req.fhdr(access-control-request-headers)] hdr Access-Control-Max-Age 600 \
if guarded !known !own_pages { method OPTIONS } { req.fhdr(origin) -m found } \
{ req.fhdr(access-control-request-method) -m found }
    # an answer before the request has ended makes HTTP/2 break off the stream, and some clients throw the answer away
    # (a gRPC client may send for as long as it likes, and reads the status in between)
    http-request wait-for-body time 5s if guarded !known !own_pages !{ req.fhdr(content-type) -m beg application/grpc }
    http-request return status 401 content-type application/json @OWN@ \
hdr WWW-Authenticate "Bearer realm=\"flyted\"" \
string "{\"code\":\"unauthenticated\",\"message\":\"@API_SIGN_IN@\"}\n" if !known { var(txn.guarded) -m str . }
    http-request return status 401 content-type application/json @OWN@ \
hdr WWW-Authenticate "Bearer realm=\"flyted\"" \
string "{\"error\":\"@SIGN_IN@\"}\n" \
if guarded !known !own_pages { req.fhdr(accept) -m sub application/json }
    http-request return status 401 @TEXT@ @OWN@ hdr WWW-Authenticate "Bearer realm=\"flyted\"" \
string "401: @SIGN_IN@\n" if guarded !known !own_pages
"""

STRIPPED = r"""    # from here on no token of ours is left; the gateway alone reads them
    http-request del-header authorization if token_sent !gateway
    http-request set-header cookie '%[req.fhdr(cookie),regsub("@SHAPE@","",g),\
regsub("(^|;)[ \t]*@COOKIE@[ \t]*=[^;]*","",g),ltrim("; ")]' if cookie_sent !gateway
    http-request del-header cookie if { req.fhdr(cookie) -m len 0 }
"""

FOR_APPS = r"""    http-request set-header X-Flyte-User %[var(txn.user)] if known
"""


def filled(text: str) -> str:
    """Return the rules with our own names filled in. The caller fills in ports, files and the gateway's host."""
    for name, value in {
        "@GUARDED@": GUARDED,
        "@TOKENS@": TOKENS,
        "@USES@": USES,
        "@OWN_PATH@": OWN_PATH,
        "@SHAPE@": SHAPE,
        "@COOKIE@": COOKIE,
        "@LONGEST_NEXT@": str(LONGEST_NEXT),
        "@SIGN_IN@": SIGN_IN,
        "@API_SIGN_IN@": API_SIGN_IN,
    }.items():
        text = text.replace(name, value)
    return text
