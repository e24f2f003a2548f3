"""Gives a browser its cookies: for the gateway by a one-time code of `flytectl login`, for each app by a redirect.

flyted makes and redeems the codes; the gateway only passes them on. A cookie is for one host: the gateway's own, or an
app's, where the ingress checks it without the gateway.
"""

from __future__ import annotations

import contextlib
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

from flyted.contract.answers.machine import Done
from flyted.contract.answers.tokens import LoginLink, Minted
from flyted.contract.errors import FlytedError, NotFound, Unauthenticated
from flyted.contract.token import COOKIE, valid_shape
from flyted.gateway.pages import html
from flyted.gateway.parts import Parts
from flyted.gateway.reply import Reply, whole

WANTED = "__Host-flyted-next"
"""A cookie that keeps, until the login, the app and path that the browser asked for."""
WANTED_S = 900
NEXT_LIMIT = 2048
NO_PAGE = "There is no such page."
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"


def query_of(scope: dict[str, object]) -> dict[str, str]:
    """Return the fields of the query; of a repeated field, the first."""
    raw = scope.get("query_string", b"")
    text = raw.decode("ascii", "replace") if isinstance(raw, bytes) else ""
    return {name: values[0] for name, values in parse_qs(text[:8192], max_num_fields=16).items()}


def cookies(headers: dict[str, str]) -> dict[str, str]:
    """Return the cookies of a request; none if they cannot be read."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def session(headers: dict[str, str]) -> str:
    """Return the token in the gateway's own cookie. Raise :class:`Unauthenticated` without one of valid form."""
    token = cookies(headers).get(COOKIE, "")
    if not valid_shape(token):
        raise Unauthenticated("You are not signed in.", hint="flytectl login")
    return token


def path_of(text: str) -> str:
    """Return ``text`` if it is a path on the same host, and "/" for any text that could lead elsewhere."""
    fine = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isascii() and text.isprintable()
    return text if fine and len(text) <= NEXT_LIMIT else "/"


async def login(parts: Parts, headers: dict[str, str], query: dict[str, str], reply: Reply) -> None:
    """Answer /login: with a code, set the cookie; with an app, redirect to the app; with neither, say what to type.

    Raise the error with which flyted refuses to make a code for the app.
    """
    if "code" in query:
        await _redeem(parts, headers, query["code"], reply)
    elif "app" in query:
        await _pass(parts, headers, query, reply)
    else:
        await explain(reply)


async def _redeem(parts: Parts, headers: dict[str, str], code: str, reply: Reply) -> None:
    try:
        made = await parts.daemon.call(Minted, "login.redeem", {"code": code[:256], "app_id": ""})
    except FlytedError as error:
        await explain(reply, error.message)
        return
    wanted = cookies(headers).get(WANTED, "")
    known = parse_qs(wanted).keys() >= {"app", "next"}
    await _go(reply, f"/login?{wanted}" if known else "/", _cookie(made), f"{WANTED}=; Max-Age=0; {_ATTRIBUTES}")


async def _pass(parts: Parts, headers: dict[str, str], query: dict[str, str], reply: Reply) -> None:
    following = path_of(query.get("next", "/"))
    try:
        made = await parts.daemon.call(LoginLink, "login.pass", {"app_id": query["app"][:253]}, token=session(headers))
    except Unauthenticated:
        wanted = urlencode({"app": query["app"][:253], "next": following})
        await explain(reply, cookie=f"{WANTED}={wanted}; Max-Age={WANTED_S}; {_ATTRIBUTES}")
        return
    url = at_port(made.url, headers.get("host", ""))
    await _go(reply, f"{url}?{urlencode({'code': made.code, 'next': following})}")


async def at_app(parts: Parts, host: str, query: dict[str, str], reply: Reply) -> None:
    """Answer /.flyted/session on an app's host: redeem the code of :func:`_pass` for the cookie of that host.

    Raise :class:`Unauthenticated`, as flyted does, for a code that is not valid.
    """
    app_id = host.partition(".")[0]
    made = await parts.daemon.call(Minted, "login.redeem", {"code": query.get("code", "")[:256], "app_id": app_id})
    await _go(reply, path_of(query.get("next", "/")), _cookie(made))


async def logout(parts: Parts, headers: dict[str, str], host: str, reply: Reply) -> None:
    """End the session of this browser, delete its cookie and redirect it to /login.

    Without a session, or with one that has ended, there is only the cookie to delete. Raise :class:`NotFound` if
    another page than the gateway's own asks for it, and any other error with which flyted leaves the session open: the
    cookie stays then, for another try.
    """
    ours = headers.get("origin", "").partition("://")[2] == host
    if not ours or headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise NotFound(NO_PAGE)
    with contextlib.suppress(Unauthenticated):
        await parts.daemon.call(Done, "login.end", token=session(headers))
    await _go(reply, "/login", f"{COOKIE}=; Max-Age=0; {_ATTRIBUTES}")


async def explain(reply: Reply, why: str = "", cookie: str = "") -> None:
    """Send the page that says what to type, for a browser without a session.

    ``why``: the reason, above it. ``cookie``: a ``Set-Cookie`` header. With one of them the status is 401, else 200.
    """
    body = [
        html.paragraph(why) if why else "",
        html.paragraph("In a terminal on this machine, as a member of group flyted, type"),
        html.command("flytectl login"),
        html.paragraph("and open the link that it prints in this browser."),
    ]
    more = {"Set_Cookie": cookie} if cookie else {}
    await html.page(reply, "Sign in", body, status=401 if why or cookie else 200, **more)


def at_port(url: str, host: str) -> str:
    """Return ``url`` with the port of ``host``, a Host header: behind a forwarded port, the browser's is not ours."""
    port = host.partition(":")[2]
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.hostname}:{port}" if port.isdigit() else str(parts.hostname)).geturl()


def _cookie(made: Minted) -> str:
    """Return the cookie of a login. It lasts as long as the token in it: closing the browser does not end it."""
    left = max(0, int(made.expires_at - time.time()))
    return f"{COOKIE}={made.token}; Max-Age={left}; {_ATTRIBUTES}"


async def _go(reply: Reply, where: str, *set_cookies: str) -> None:
    headers = [("Location", where), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")]
    headers += [("Set-Cookie", cookie) for cookie in set_cookies if cookie]
    await whole(reply, 303, b"", headers)
