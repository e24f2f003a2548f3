"""Writes HAProxy's configuration and its maps, complete, so that a restarted HAProxy serves the same. Pure.

Sources of the rules: HAProxy's configuration.txt (2.6 and 3.0 read this alike); RFC 9110 (421, 308), RFC 7239.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from flyted.contract import authority
from flyted.contract.names import GATEWAY_HOST, at_port
from flyted.plan.ingress import access_log, certificates, clients, internal, kept, no_wake, pools, waiting
from flyted.plan.ingress import paths as ingress_paths
from flyted.plan.ingress import start_page as page
from flyted.plan.ingress.auth import FOR_APPS, RULES, STRIPPED, USES_KEPT_S, filled
from flyted.plan.ingress.inherited import admin, binds
from flyted.plan.ingress.ports import INGRESS_UNIT
from flyted.plan.ingress.reply import DOWN, HOST_COOKIES, OWN, TEXT, app_errors, errors, gateway_errors
from flyted.plan.ingress.request import (
    ADDRESS,
    CHALLENGE,
    CHECKS,
    HOST,
    LOCAL,
    MOST_BYTES,
    MOST_FIELDS,
    MOST_LENGTH,
    MOVED,
    PLAIN,
)
from flyted.plan.ingress.server_timing import RULES as SERVER_TIMING
from flyted.plan.ingress.state import (
    AUTHORITIES,
    BACKEND,
    CALLERS,
    CALLS,
    CHALLENGES,
    DEFAULT_TIMEOUT_MS,
    DOMAINS,
    FILES,
    HOSTS,
    NAMES,
    REDIRECTS,
    TIMEOUTS,
    UNAVAILABLE,
    IngressState,
    Listen,
)

CONFIG = "haproxy.cfg"
SITE = "site.pem"
"""The credential of the ingress that holds its certificate and key."""
CERTIFICATE = f"/run/credentials/{INGRESS_UNIT}/{SITE}"
GATEWAY_SOCKET = "/run/flyted/gateway.sock"
BUFFER = 65536  # bytes; holds a message's headers. HAProxy allocates a buffer only while it is in use
CONNECTIONS = 8000
PER_ADDRESS = CONNECTIONS // 2
SILENT = CONNECTIONS // 8  # per address, before the TLS handshake is done; only with HAProxy 2.6
VANISHED_S = 120
"""Seconds after which a client is gone that acknowledges nothing: no data, and no question whether it is still there
(``TCP_USER_TIMEOUT`` in tcp(7)). The kernel alone would try for 15 minutes, in which the app stays awake."""
USUAL_PORTS = (443, 80)
HSTS_S = 15_552_000  # 180 days
HSTS = r"""    # with a certificate that this machine did not sign, clients do not ask unencrypted again (RFC 6797)
    http-after-response set-header Strict-Transport-Security max-age=@HSTS_S@ \
unless { ssl_f_i_dn(O) -m str @OWN_CA@ } || { res.fhdr(strict-transport-security) -m found }
"""
OWN_CA = "flyted"
"""The organization of this machine's own authorities (host/ca.py)."""
HARD_FIELDS = 1024  # above this HAProxy itself refuses a message, in words that cannot be changed


@dataclass(frozen=True)
class HaproxyPaths:
    """The paths that HAProxy needs. Only tests use other values than the defaults."""

    files: str = FILES
    certificate: str = CERTIFICATE
    site_files: str = certificates.FILES
    site_folder: str = certificates.FOLDER  # where flyted keeps these
    admin: str = ""  # if it does not inherit
    inherits: bool = True  # HAProxy inherits the listeners for clients from PID 1; otherwise it binds them itself
    gateway: str = GATEWAY_SOCKET
    calls: str = ""  # where it listens for calls between apps, if it does not inherit
    journal: str = access_log.JOURNAL


STANDARD = HaproxyPaths()

# A backslash at the end of a line continues it: _frame() joins the two lines, since HAProxy cannot.
HEAD = r"""# Written by flyted; HAProxy reads it when it starts. While it runs, flyted tells it every change.
global
    description @STRUCTURE@
    log stdout format raw daemon
@ADMIN_SOCKET@
    stats timeout 1h
    lua-load @FILES@/@LUA_FILE@
    # one thread: what a sleeping app's last request and its stop do to each other is tested with one
    nbthread 1
    # when it is stopped, requests in flight get this long; new connections wait for the next HAProxy
    hard-stop-after 5s
    maxconn @CONNECTIONS@
    # as much as uvicorn takes; a response has no lower limit of ours
    tune.bufsize @BUFFER@
    tune.http.maxhdr @HARD_FIELDS@
    ssl-default-bind-options ssl-min-ver TLSv1.2
    ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256

# nobody is asked for names; 2.6 would else make a socket for each name server of the machine, and it may make none
resolvers default

defaults usual
    mode http
@LOG@\
    # an app hears of a client that went away, before its answer begins too: a language model would go on for minutes
    option abortonclose
    # and of one that vanished without a word, with its machine or its network: see VANISHED_S
    option clitcpka
    clitcpka-idle 30s
    clitcpka-intvl 10s
    # what an app says is sent on at once: HAProxy would else wait for more, up to 0.2 s, which a streamed word shows
    option http-no-delay
    # X_Forwarded_For is X-Forwarded-For to a CGI-minded framework
    option http-restrict-req-hdr-names delete
    # until TLS is spoken; an older one waits as long as for any client, but see CROWD
    .if version_atleast(3.0)
    timeout client-hs 10s
    .endif
    timeout http-request 5s
    timeout http-keep-alive 15s
    timeout client 60s
    # a Unix socket connects at once or never
    timeout connect 3s
    # requests above a server's maxconn wait here during a cold start
    timeout queue 10m
    # WebSocket silence
    timeout tunnel 1h
    # silence of the app, a cold start included; each app's own in @FILES@/@TIMEOUTS@
    timeout server @TIMEOUT@ms
    # only what never reached an app is tried again: a request that kills its app would kill it four times over
    retries 3
    retry-on conn-failure
@ERRORS@
"""

CROWD = r"""@PROXIED@\
    # an address has at most half of the places: all users of this machine together, or in IPv6 a network
    tcp-request connection track-sc0 src,ipmask(32,64) table addresses
    tcp-request connection reject if { sc0_conn_cur gt @PER_ADDRESS@ }
@ELSEWHERE@\
    # 2.6 has no limit of time for the handshake alone, so there an address may open few connections a minute that do
    # not speak TLS
    .if version_before(3.0)
    tcp-request connection set-var(sess.spoken) sc0_gpc0_rate(addresses)
    tcp-request connection reject if { sc0_conn_rate(addresses),sub(sess.spoken) gt @SILENT@ }
    tcp-request session sc-inc-gpc0(0)
    .endif
"""

FRONT = r"""
backend addresses
    .if version_before(3.0)
    stick-table type ipv6 size 100k expire 1m store conn_cur,conn_rate(1m),gpc0,gpc0_rate(1m)
    .else
    stick-table type ipv6 size 100k expire 1m store conn_cur
    .endif
@TABLES@backend @USES@
    stick-table type string len 64 size 100k expire @USES_KEPT_S@s
frontend https
@HTTPS_BINDS@
@CROWD@@SOURCE@@CHECKS@@REQUESTS@@MOVED@@GUARD@@PATH_RULES@\
@FIRST_PAGE@@DOWN@@NO_WAKE@@SERVER_TIMING@@START_PAGE@\
@ADDRESS@@PLAIN@    http-request set-header X-Forwarded-Proto https
    # HAProxy's own 400 for a client that stopped sending; 2.6 says nothing at all then
    .if version_atleast(3.0)
    http-after-response set-status 408 if { status 400 } { txn.sess_term_state -m beg c }
    .endif
@HSTS@@FOR_APPS@@POOL_RULES@@KEPT_RULES@\
    use_backend gateway if gateway || own_pages || { var(txn.authority) -m found }
@USE_KEPT@@USE_POOL@\
    default_backend @BACKEND@
@APP_ERRORS@

frontend http
@HTTP_BINDS@
@CROWD@@SOURCE@@HTTP_CHECKS@@REQUESTS@    http-request return status 403 @TEXT@ \
string "403: these credentials were sent unencrypted over the network; replace them and use https\n" \
if { req.fhdr(authorization) -m found } !{ src 127.0.0.0/8 ::1 } \
|| { req.fhdr(x-flyte-authorization) -m found } !{ src 127.0.0.0/8 ::1 }
    # the SDK's upload knows no CA of ours: a client of this machine may send to its one-time address in the clear
    acl gateway var(txn.app) -m str @GATEWAY@
    acl upload path_beg /upload/
    acl put method PUT
    acl local src 127.0.0.0/8 ::1
    # only a host that we serve is ever named in the answer
    http-request return status 308 @TEXT@ hdr Location https://%[var(txn.host)]@HTTPS_PORT@%[pathq] \
lf-string "308: use https://%[var(txn.host)]@HTTPS_PORT@\n" \
unless gateway upload put local || { var(txn.authority) -m found }
    use_backend gateway
@INTERNAL_FRONT@
backend gateway
@GATEWAY_ERRORS@
@ONE_REQUEST@    # what the gateway hears about a client is ours alone
    http-request del-header x-forwarded -m beg
    http-request del-header x-flyte -m beg
    http-request del-header upgrade
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Flyted-Ports "@PORTS@"
    http-request set-header X-Flyted-Local 1 if { src 127.0.0.0/8 ::1 }
    http-request set-header X-Flyted-Host %[var(txn.at)] \
if { var(txn.app) -m str @GATEWAY@ } !{ var(txn.host) -m str @GATEWAY@ }
    http-request set-header X-Flyted-Authority %[var(txn.authority)] if { var(txn.authority) -m found }
    # a followed log, or an image build, may say nothing for minutes
    timeout server 15m
    # of all it answers, pages or not: they say more than this where they need more
    http-response set-header X-Content-Type-Options nosniff
    http-response set-header Content-Security-Policy "default-src 'none'; frame-ancestors 'none'" \
unless { res.fhdr(content-security-policy) -m found }
    # no maxconn: a client that does not send what it has announced would hold a place even after the answer
    server gateway unix@@GATEWAY_SOCKET@

backend @BACKEND@
@APP_ERRORS@
@ONE_REQUEST@    # these tables are there also if the listener for calls is not
    acl caller src,map(@FILES@/@CALLERS@) -m found
    acl called path,map(@FILES@/@CALLS@) -m found
@WAITING@    # never used to pick (all weights are 0); dynamic servers need a dynamic algorithm
    balance random
    http-request set-timeout server var(txn.server),map_str_int(@FILES@/@TIMEOUTS@,@TIMEOUT@)
    # a cookie is for the host that set it: all apps are one site to a browser, and would get it
@HOST_COOKIES@    use-server %[var(txn.server)] if { var(txn.server) -m found }
"""


def render_config(state: IngressState, listen: Listen, places: HaproxyPaths = STANDARD) -> str:
    """Return the whole haproxy.cfg, with a static line per server.

    Raises :class:`InvalidInput` for a state that is not complete (:meth:`IngressState.check`).
    """
    frame, servers = _frame(listen, places), state.check().servers.values()
    alone = "".join(server.line for server in servers if not server.pool)
    pooled = pools.filled_pools(places.files, listen.clients.waiting, (server for server in servers if server.pool))
    return frame.replace("@STRUCTURE@", structure(listen, places)) + alone + pooled + kept.backend(places.files)


@lru_cache(maxsize=4)
def structure(listen: Listen, places: HaproxyPaths = STANDARD) -> str:
    """Return a digest of the whole configuration but the servers, and of its script.

    HAProxy repeats it in ``show info``, which shows when a restart is due.
    """
    whole = (
        _frame(listen, places)
        + pools.filled_pools(places.files, listen.clients.waiting, ())
        + pools.script(places.files)
    )
    whole += kept.backend(places.files)
    return "flyted-" + hashlib.sha256(whole.encode()).hexdigest()[:16]


@lru_cache(maxsize=4)
def _frame(listen: Listen, places: HaproxyPaths) -> str:
    listed = f"{places.files}/{certificates.LIST}"
    tls = f" ssl crt {places.certificate} crt-list {listed} alpn h2,http/1.1"
    checks, http_checks = CHECKS.replace("@CHALLENGE@", ""), CHECKS.replace("@CHALLENGE@", CHALLENGE)
    usual = (listen.https_port, listen.http_port) == USUAL_PORTS  # a client keeps the port of an address it upgrades
    front = (
        FRONT.replace("@INTERNAL_FRONT@", internal.frontend(listen, "" if places.inherits else places.calls))
        .replace("@CHECKS@", checks)
        .replace("@HTTP_CHECKS@", http_checks)
        .replace("@HSTS@", HSTS if usual else "")
        .replace("@MOVED@", MOVED)
        .replace("@GUARD@", RULES + clients.at_once_rules(listen.clients, PER_ADDRESS) + STRIPPED)
        .replace("@FOR_APPS@", FOR_APPS)
        .replace("@POOL_RULES@", pools.frontend_rules(places.files))
        .replace("@USE_POOL@", pools.USE)
        .replace("@KEPT_RULES@", kept.frontend_rules(places.files))
        .replace("@USE_KEPT@", kept.USE)
        .replace("@ONE_REQUEST@", kept.ONE_REQUEST)
    )
    front = front.replace("@DOWN@", DOWN).replace("@PLAIN@", PLAIN)
    rules = listen.clients
    front = front.replace("@NO_WAKE@", no_wake.frontend_rules(rules.no_wake_paths, places.files, log=rules.access_log))
    front = front.replace("@SERVER_TIMING@", SERVER_TIMING)
    on, log = rules.waiting_page, rules.access_log
    front = front.replace("@FIRST_PAGE@", page.first_rules(places.files, on=on, log=log))
    front = front.replace("@START_PAGE@", page.rules(places.files, on=on, log=log))
    front = front.replace("@PATH_RULES@", ingress_paths.filled(ingress_paths.RULES))
    text = filled(HEAD + front.replace("@ADDRESS@", ADDRESS)).replace("\\\n", "")
    for name, value in {
        "@CROWD@": CROWD.replace("\\\n", ""),
        "@PROXIED@": clients.connection_rules(listen.clients),
        "@ELSEWHERE@": clients.crowd_rules(listen.clients),
        "@TABLES@": clients.tables(),
        "@WAITING@": waiting.server_rules(rules.waiting),
        "@SOURCE@": clients.source_rules(listen.clients).replace("\\\n", ""),
        "@REQUESTS@": clients.request_rules(listen.clients).replace("\\\n", ""),
        "@LOG@": access_log.rules(places.journal, each=rules.access_log),
        "@OWN@": OWN,
        "@HOST_COOKIES@": HOST_COOKIES.replace("\\\n", ""),
        "@CONNECTIONS@": str(CONNECTIONS),
        "@PER_ADDRESS@": str(PER_ADDRESS),
        "@SILENT@": str(SILENT),
        "@USES_KEPT_S@": str(USES_KEPT_S),
        "@HOST@": HOST,
        "@LOCAL@": LOCAL,
        "@MOST_BYTES@": str(MOST_BYTES),
        "@MOST_FIELDS@": str(MOST_FIELDS),
        "@HSTS_S@": str(HSTS_S),
        "@OWN_CA@": OWN_CA,
        "@MOST_LENGTH@": str(MOST_LENGTH),
        "@BUFFER@": str(BUFFER),
        "@HARD_FIELDS@": str(HARD_FIELDS),
        "@ADMIN_SOCKET@": admin(listen, "" if places.inherits else places.admin),
        "@BAD@": f"status 400 {TEXT} hdr Connection close",
        "@TEXT@": TEXT,
        "@ERRORS@": errors(),
        "@APP_ERRORS@": app_errors(),
        "@GATEWAY_ERRORS@": gateway_errors(),
        "@HTTPS_BINDS@": binds(listen, 0, f"{tls} tcp-ut {VANISHED_S}s", inherits=places.inherits),
        "@HTTP_BINDS@": binds(listen, 1, f" tcp-ut {VANISHED_S}s", inherits=places.inherits),
        "@PORTS@": f"{listen.https_port} {listen.http_port}",
        "@GATEWAY_SOCKET@": places.gateway,
        "@GATEWAY@": GATEWAY_HOST,
        "@HTTPS_PORT@": at_port("", listen.https_port),
        "@FILES@": places.files,
        "@LUA_FILE@": pools.LUA_FILE,
        "@HOSTS@": HOSTS,
        "@DOMAINS@": DOMAINS,
        "@NAMES@": NAMES,
        "@CHALLENGES@": CHALLENGES,
        "@AUTHORITIES@": AUTHORITIES,
        "@REDIRECTS@": REDIRECTS,
        "@CALLERS@": CALLERS,
        "@CALLS@": CALLS,
        "@AUTHORITY_PATHS@": " ".join(authority.PATHS),
        "@TIMEOUTS@": TIMEOUTS,
        "@UNAVAILABLE@": UNAVAILABLE,
        "@TIMEOUT@": str(DEFAULT_TIMEOUT_MS),
        "@BACKEND@": BACKEND,
    }.items():
        text = text.replace(name, value)
    return text
