"""Renders the page that a browser shows while an app starts, which says what the start does. Pure.

A visit is a navigation by GET, as the browser itself says (Fetch Metadata, which no script can set): so no program and
no request of a page ever gets this page. If its app is *cold* (stopped, or not up yet), HAProxy connects to the app's
socket, which makes PID 1 start it, and holds the visit back for up to a second. A visit to an app that is up by then
goes on to it, like any other; else it is answered with the page, if flyted says what the start does. The page asks
again by itself, without a script.

The app never sees a visit that got the page: a link that works once, as in an e-mail for a login, is not used up. So
it is not sent and then given up. HAProxy's language has no action that waits for an entry of a map to change, so this
is done in its Lua (:data:`LUA`), as in pools.py. A map has the apps that are cold, with their sockets, and another one
what they do. A visit goes on as it would without all this if flyted is down, if an app is being stopped, and for those
beyond :data:`MOST` a second.

A visit that comes from another site gets no page. When the page reloads, the browser takes that for a visit from the
app's own site, and would send the cookies that it keeps from other sites (SameSite=Strict).

It shows nothing of the journal: the ingress does not know which of its clients owns an app.

Sources: W3C's Fetch Metadata, Content Security Policy 3 (hashes of styles), HTML (``http-equiv=refresh``).
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

COLD, STEPS = "cold.map", "steps.map"
"""Server or pool of an app that is cold → the socket that starts it; host of an app that starts → what it does."""
STEP = re.compile(r"[A-Z][A-Za-z0-9 ,.:]{1,119}")
"""A sentence of flyted's own: nothing in it can end a word, or begin a tag."""
MOST = 64
"""Visits a second that are held back, of all apps together: each takes a little of HAProxy's time until it goes on."""
POLL_MS = 20
HOLD_MS = 1000
AGAIN_S = 2
"""Seconds until the page reloads if nothing listens for the app yet. Else it does so at once, and is held back."""

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1.1em/1.5 system-ui,sans-serif;max-width:34em;margin:18vh auto;padding:0 1em}"
)
_HTML = (
    "<!DOCTYPE html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<meta http-equiv=refresh content=%[var(txn.again_s)]>"
    f"<title>%[var(txn.app),field(1,.)] is starting</title><style>{_STYLE}</style>"
    "<h1>%[var(txn.app),field(1,.)] is starting</h1><p role=status>%[var(txn.step)]</p>"
    r"<p>This page becomes the app's own as soon as the app answers.</p></html>\n"
)
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_QUIET = "    http-request set-log-level silent if { var(txn.step) -m found }\n"
"""It is no failure, and a browser asks each second."""
_PAGE = rf"""@QUIET@\
    http-request return status 503 content-type "text/html; charset=utf-8" hdr Retry-After {AGAIN_S} \
hdr Cache-Control no-store hdr X-Content-Type-Options nosniff hdr Referrer-Policy no-referrer \
hdr Content-Security-Policy "{_POLICY}" lf-string "{_HTML}" if {{ var(txn.step) -m found }}
"""
_TABLES = r"""    acl cold var(txn.server),map(@FILES@/@COLD@) -m found
    acl starts var(txn.app),map(@FILES@/@STEPS@) -m found
"""
"""HAProxy reads a map only if a rule has it, and flyted asks for these in any case."""
_VISITS = r"""    # a person at a browser, who typed the address or follows a link of the app itself
    http-request set-var(txn.visit) int(1) if !own_pages !gateway { method GET } !{ req.fhdr(upgrade) -m found } \
{ req.fhdr(sec-fetch-mode) -m str navigate } { req.fhdr(sec-fetch-dest) -m str document } \
{ req.fhdr(sec-fetch-site) -m str none same-origin } !{ req.fhdr(sec-purpose) -m found } \
{ req.fhdr(accept) -m sub -i text/html }
    acl visit var(txn.visit) -m found
    http-request set-var(txn.again_s) int(@AGAIN_S@) if visit
    http-request set-var(txn.step) var(txn.app),map(@FILES@/@STEPS@) if visit { var(txn.unavailable) -m found }
"""
_HELD = r"""    http-request set-var(txn.held) int(1) if visit cold
    acl held var(txn.held) -m found
    acl guarded_now var(txn.app),map(@FILES@/@GUARDED@) -m found
    acl down_now var(txn.app),map(@FILES@/@UNAVAILABLE@) -m found
    http-request set-var(txn.restricted) int(1) if held restricted
    http-request lua.hold_visit if held
    http-request set-var(txn.again_s) int(0) if held
    http-request set-var(txn.step) var(txn.app),map(@FILES@/@STEPS@) if { var(txn.held_long) -m found }
    # much can happen in a second: only what these rules would still let through goes on, and else it comes again
    http-request set-var(txn.leads) str(-) if held
    http-request set-var(txn.leads) var(txn.app),map(@FILES@/@HOSTS@) if held
    http-request set-var(txn.step) str("It is starting.") if held !{ var(txn.leads),strcmp(txn.server) eq 0 } \
|| held down_now || held guarded_now !guarded || held restricted !{ var(txn.restricted) -m found }
"""
LUA = """-- Holds a visit to a cold app back until the app is up, for a second at most.
local cold = Map.new("@FILES@/@COLD@", Map._str)
local steps = Map.new("@FILES@/@STEPS@", Map._str)
local second, visits, woken = 0, 0, {}
core.register_action("hold_visit", { "http-req" }, function(txn)
    local server = txn:get_var("txn.server")
    local now = core.now().sec
    if now ~= second then second, visits, woken = now, 0, {} end
    visits = visits + 1
    if visits > @MOST@ then return end
    local path = cold:lookup(server)
    if path and not woken[server] and not steps:lookup(txn:get_var("txn.app")) then
        -- nothing is sent: a connection that waits is what PID 1 starts the app for. One that starts needs no other:
        -- they would fill its socket while it does
        woken[server] = true
        local app = core.tcp()
        app:settimeout(1)
        app:connect("unix@" .. path)
        app:close()
    end
    for _ = 1, @POLLS@ do
        if not cold:lookup(server) then return end
        core.msleep(@POLL_MS@)
    end
    txn:set_var("txn.held_long", 1)
end)
"""


@lru_cache(maxsize=4)
def first_rules(files: str, *, on: bool, log: bool = False) -> str:
    """Return what a frontend has before it answers for apps that are not available. ``files``: the folder of maps.

    ``on``: whether there is such a page at all; ``log``: whether to log each.
    """
    return _filled(_TABLES + (_VISITS + _PAGE if on else ""), files, log=log)


@lru_cache(maxsize=4)
def rules(files: str, *, on: bool, log: bool = False) -> str:
    """Return what a frontend has when all else is known of a request, so that a refused one wakes no app."""
    return _filled(_HELD + _PAGE, files, log=log) if on else ""


def script(files: str) -> str:
    """Return the script for HAProxy."""
    return _filled(LUA, files)


def _filled(text: str, files: str, *, log: bool = False) -> str:
    for name, value in {
        "@QUIET@": "" if log else _QUIET,
        "\\\n": "",
        "@FILES@": files,
        "@COLD@": COLD,
        "@STEPS@": STEPS,
        "@AGAIN_S@": str(AGAIN_S),
        "@MOST@": str(MOST),
        "@POLLS@": str(HOLD_MS // POLL_MS),
        "@POLL_MS@": str(POLL_MS),
    }.items():
        text = text.replace(name, value)
    return text
