"""The way of a browser to its cookie: a one-time code by `flytectl login`, then one for each app by a redirect.

Codes are made and redeemed by flyted; here they only pass through. A cookie is for one host: the gateway's own, or an
app's, where the ingress checks it without us.
"""

from __future__ import annotations

import time
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from flyted.contract.errors import FlytedError, NotFound, Unauthenticated
from flyted.contract.token import COOKIE, valid_shape
from flyted.gateway import html
from flyted.gateway.parts import Parts
from flyted.gateway.reply import Reply, whole

WANTED = "__Host-flyted-next"
"""Remembers, until the login, where the browser wanted to go."""
WANTED_S = 900
NEXT_LIMIT = 2048
NO_PAGE = "There is no such page."
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"


def query_of(scope: dict[str, object]) -> dict[str, str]:
    """The query's fields; of one that comes twice, the first."""
    raw = scope.get("query_string", b"")
    text = raw.decode("ascii", "replace") if isinstance(raw, bytes) else ""
    return {name: values[0] for name, values in parse_qs(text[:8192], max_num_fields=16).items()}


def cookies(headers: dict[str, str]) -> dict[str, str]:
    """The cookies of a request; none when they cannot be read."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def session(headers: dict[str, str]) -> str:
    """The token in the gateway's own cookie. Raises :class:`Unauthenticated`."""
    token = cookies(headers).get(COOKIE, "")
    if not valid_shape(token):
        raise Unauthenticated("You are not signed in.", hint="flytectl login")
    return token


def path_of(text: str) -> str:
    """A path on the same host to go on to; the start page for anything that could lead elsewhere."""
    fine = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isascii() and text.isprintable()
    return text if fine and len(text) <= NEXT_LIMIT else "/"


async def login(parts: Parts, headers: dict[str, str], query: dict[str, str], reply: Reply) -> None:
    """/login: with a code, a cookie; with an app, on to that app; with neither, what to do."""
    if "code" in query:
        await _redeem(parts, headers, query["code"], reply)
    elif "app" in query:
        await _pass(parts, headers, query, reply)
    else:
        await explain(reply)


async def _redeem(parts: Parts, headers: dict[str, str], code: str, reply: Reply) -> None:
    try:
        made = await parts.daemon.call("login.redeem", {"code": code[:256], "app_id": ""})
    except FlytedError as error:
        await explain(reply, error.message)
        return
    wanted = cookies(headers).get(WANTED, "")
    known = parse_qs(wanted).keys() >= {"app", "next"}
    await _go(reply, f"/login?{wanted}" if known else "/", _cookie(made), f"{WANTED}=; Max-Age=0; {_ATTRIBUTES}")


async def _pass(parts: Parts, headers: dict[str, str], query: dict[str, str], reply: Reply) -> None:
    following = path_of(query.get("next", "/"))
    try:
        made = await parts.daemon.call("login.pass", {"app_id": query["app"][:253]}, token=session(headers))
    except Unauthenticated:
        wanted = urlencode({"app": query["app"][:253], "next": following})
        await explain(reply, cookie=f"{WANTED}={wanted}; Max-Age={WANTED_S}; {_ATTRIBUTES}")
        return
    url = at_port(made["url"], headers.get("host", ""))
    await _go(reply, f"{url}?{urlencode({'code': made['code'], 'next': following})}")


async def at_app(parts: Parts, host: str, query: dict[str, str], reply: Reply) -> None:
    """/.flyted/session on an app's host: the code of :func:`_pass` becomes the cookie of that host."""
    app_id = host.partition(".")[0]
    made = await parts.daemon.call("login.redeem", {"code": query.get("code", "")[:256], "app_id": app_id})
    await _go(reply, path_of(query.get("next", "/")), _cookie(made))


async def logout(parts: Parts, headers: dict[str, str], host: str, reply: Reply) -> None:
    """Ends the session of this browser; asked for by our own page only."""
    ours = headers.get("origin", "").partition("://")[2] == host
    if not ours or headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise NotFound(NO_PAGE)
    try:
        await parts.daemon.call("login.end", token=session(headers))
    finally:
        await _go(reply, "/login", f"{COOKIE}=; Max-Age=0; {_ATTRIBUTES}")


async def explain(reply: Reply, why: str = "", cookie: str = "") -> None:
    """What to type, for who has no session."""
    body = [
        html.paragraph(why) if why else "",
        html.paragraph("In a terminal on this machine, as a member of group flyted, type"),
        html.command("flytectl login"),
        html.paragraph("and open the link that it prints in this browser."),
    ]
    more = {"Set_Cookie": cookie} if cookie else {}
    await html.page(reply, "Sign in", body, status=401 if why or cookie else 200, **more)


def at_port(url: str, host: str) -> str:
    """``url`` at the port that the browser used for ``host``, a Host header: behind a forwarded one it is not ours."""
    port = host.partition(":")[2]
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.hostname}:{port}" if port.isdigit() else str(parts.hostname)).geturl()


def _cookie(made: dict[str, Any]) -> str:
    """The cookie of a login, which lasts as long as the token in it does: closing the browser does not end it."""
    left = max(0, int(float(made["expires_at"]) - time.time()))
    return f"{COOKIE}={made['token']}; Max-Age={left}; {_ATTRIBUTES}"


async def _go(reply: Reply, where: str, *set_cookies: str) -> None:
    headers = [("Location", where), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")]
    headers += [("Set-Cookie", cookie) for cookie in set_cookies if cookie]
    await whole(reply, 303, b"", headers)
