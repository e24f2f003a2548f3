"""The ingress's rules for every request, before it is passed on to an app or the gateway. Pure.

An app gets a host, a path and lengths that were checked or written here. Each framework reads unusual forms of them in
its own way, and a framework that takes a part of the host for the path lets a client bypass its own key.

Sources: RFC 9110 7.2 (Host), 9.3.7 (``OPTIONS *``), RFC 9112 3.2 (forms of the target), 6.1 (HTTP/1.0 and encodings),
RFC 6585 5 (431).
"""

from __future__ import annotations

_PORT = "6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}"
HOST = rf"^([A-Za-z0-9-]+([.][A-Za-z0-9-]+)*[.]?|\[[0-9A-Fa-f:.]+\])(:({_PORT}))?$"
"""A name (a dot at its end changes nothing) or an address in brackets, optionally with a port. Python agrees."""
MOST_BYTES = 49152
MOST_FIELDS = 256
"""The most bytes and fields of a request's headers: below HAProxy's own limits, above which it answers itself."""
MOST_LENGTH = 18
"""The most digits of Content-Length: HAProxy counts in 64 bits, and takes 2^64+1 for 1."""

LOCAL = "{ src 127.0.0.0/8 ::1 } { dst 127.0.0.0/8 ::1 }"
"""Who is on this machine: a proxy on it has its client's address (clients.py), and comes to loopback all the same."""

FORM = r"""    http-request set-var(txn.path) path
    http-request return status 431 @TEXT@ hdr Connection close \
string "431: the headers of this request are too large: @MOST_BYTES@ bytes and @MOST_FIELDS@ fields are the limit\n" \
if { req.hdrs,length gt @MOST_BYTES@ } || { req.fhdr_cnt gt @MOST_FIELDS@ }
    http-request return @BAD@ string "400: exactly one valid Host is required\n" unless { req.fhdr_cnt(host) eq 1 }
    http-request return @BAD@ string "400: this Host is not valid\n" unless { req.fhdr(host) -m reg '@HOST@' }
    # HAProxy 2.6 lets a NUL in a value pass, and apps may take what comes before it for the whole
    .if version_before(3.0)
    http-request return @BAD@ string "400: a header has a NUL in it\n" \
if { req.hdrs,json(ascii) -m sub \\u0000 }
    .endif
    http-request return @BAD@ string "400: HTTP/1.0 has no Transfer-Encoding\n" \
if { req.ver 1.0 } { req.fhdr(transfer-encoding) -m found }
    http-request return @BAD@ string "400: this Content-Length is not valid\n" \
if { req.fhdr(content-length),length gt @MOST_LENGTH@ }
    http-request return status 405 @TEXT@ string "405: this method is not allowed\n" if { method CONNECT TRACE }
    # ftp:, OPTIONS *: what is left when the host is taken off is no path
    http-request return @BAD@ string "400: this address is not valid\n" unless { url -m beg -i / http:// https:// }
"""
"""What holds for each request, whoever sends it: one way to read it."""

NAMED = r"""    http-request set-var(txn.host) req.fhdr(host),field(1,:),lower,rtrim(.)
    # as the client knows it, which is another one behind a forwarded port
    http-request set-var(txn.port) str()
    http-request set-var-fmt(txn.port) :%[req.fhdr(host),field(2,:)] if { req.fhdr(host) -m sub : }
    http-request set-var-fmt(txn.at) %[var(txn.host)]%[var(txn.port)]
"""

CHECKS = (
    FORM
    + NAMED
    + r"""@CHALLENGE@\
    # tables know an app by its host at the machine's own base domain; it may have others (a lookup that finds nothing
    # leaves the variable as it is)
    http-request set-var(txn.app) var(txn.host)
    http-request set-var(txn.base) var(txn.host),field(2,.,0),map(@FILES@/@DOMAINS@)
    http-request set-var-fmt(txn.app) %[var(txn.host),field(1,.)].%[var(txn.base)] if { var(txn.base) -m found }
    http-request set-var(txn.app) var(txn.host),map(@FILES@/@NAMES@)
    http-request set-var(txn.server) var(txn.app),map(@FILES@/@HOSTS@)
    http-request set-var(txn.unavailable) var(txn.app),map(@FILES@/@UNAVAILABLE@)
    # clients fetch the certificate of this machine's authority before they trust it, so also unencrypted
    http-request set-var(txn.authority) var(txn.host),map(@FILES@/@AUTHORITIES@) \
if { path @AUTHORITY_PATHS@ } { method GET HEAD }
    # also where an app of an earlier version has flyted's name
    http-request unset-var(txn.unavailable) if { var(txn.authority) -m found }
    # the gateway answers clients on this machine, and at the names that the table gives it: a client of the network
    # that calls it by its own name gets no answer
    http-request return status 421 @TEXT@ hdr Cache-Control no-store \
string "421: this machine has no app of this name; its operator can list the apps: flytectl app ls\n" \
unless { var(txn.server) -m found } || { var(txn.unavailable) -m found } \
|| { var(txn.app) -m str @GATEWAY@ } @LOCAL@ \
|| { var(txn.app) -m str @GATEWAY@ } !{ var(txn.host) -m str @GATEWAY@ } || { var(txn.authority) -m found }
    # clients of a domain that has moved are sent to the app's name at another one; flyted's own name is not moved
    http-request set-var(txn.moved) var(txn.host),field(2,.,0),map(@FILES@/@REDIRECTS@) \
unless { var(txn.app) -m str @GATEWAY@ } || { var(txn.authority) -m found }
    # an app that answered these could get certificates for its name, and keep them when another app has the name; an
    # authority follows a redirect to https (RFC 8555 8.3)
    http-request return status 404 @TEXT@ hdr Cache-Control no-store \
string "404: flyted alone answers the challenges of ACME authorities\n" if { path_beg /.well-known/acme-challenge/ }
"""
)

MOVED = r"""    # not to be stored: a client may keep a 308 for ever (RFC 9110 15.4.9), and this one ends one day
    http-request return status 308 @TEXT@ @OWN@ \
hdr Location https://%[var(txn.host),field(1,.)].%[var(txn.moved)]%[var(txn.port)]%[pathq] \
string "308: this app has another name now\n" if { var(txn.moved) -m found }
"""

CHALLENGE = r"""    # an authority asks whether a name leads here (RFC 8555 8.3); no other names are answered for
    http-request set-var(txn.proof) var(txn.host),map(@FILES@/@CHALLENGES@)
    http-request return status 200 content-type application/octet-stream hdr Cache-Control no-store \
lf-string "%[var(txn.path),field(4,/)].%[var(txn.proof)]" \
if { var(txn.proof) -m found } \
{ var(txn.path) -m reg '^/\.well-known/acme-challenge/[A-Za-z0-9_-]{1,128}$' }
"""

ADDRESS = r"""    # the app is asked in the plain form, for a path, at a host that we wrote
    http-request set-var(txn.pathq) pathq
    http-request set-var(txn.pathq) str(/) unless { var(txn.pathq) -m found } { var(txn.pathq) -m len gt 0 }
    http-request set-var-fmt(txn.pathq) /%[var(txn.pathq)] unless { var(txn.pathq) -m beg / }
    http-request set-uri %[var(txn.pathq)] unless { url -m beg / }
    http-request set-header Host %[var(txn.at)]
"""

PLAIN = r"""    # no other protocol (h2c) is spoken past these rules
    acl websocket req.fhdr(upgrade) -m str -i websocket
    http-request del-header upgrade unless websocket
    http-request del-header http2-settings
    http-request del-header connection
    http-request set-header Connection upgrade if websocket
    # what a client says about itself is not what we know about it
    http-request del-header x-forwarded -m beg
    http-request del-header x-flyte -m beg
    http-request del-header forwarded
    http-request del-header x-real-ip
    http-request del-header proxy
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Host %[var(txn.at)]
"""
