"""Pages for people, to which the addresses lead that the SDK prints. Small, without scripts, behind a login."""

from __future__ import annotations

import re
from typing import Any

from flyted.contract.errors import FlytedError, NotFound, Unauthenticated
from flyted.contract.names import GATEWAY_HOST, at_port
from flyted.gateway.caller import caller
from flyted.gateway.pages import html, login, views
from flyted.gateway.pages.authority import answer as at_authority
from flyted.gateway.pages.login import NO_PAGE
from flyted.gateway.parts import Parts
from flyted.gateway.reply import Reply

_PAGE = re.compile(r"/v2/domain/(?P<domain>[^/]+)/project/(?P<project>[^/]+)/(?P<kind>apps|runs)/(?P<name>[^/]+)/?")
SESSION = "/.flyted/session"
_ELSEWHERE = f"this is flyted's API; its pages are at https://{GATEWAY_HOST}, on the machine itself"


async def answer(parts: Parts, scope: dict[str, Any], headers: dict[str, str], reply: Reply) -> None:
    """Send the page of a request. An error of flyted or of ours becomes a page, too."""
    host, path = headers.get("host", ""), scope["path"]
    try:
        if authority := headers.get("x-flyted-authority", ""):
            await at_authority(authority, at_port(host.partition(":")[0], caller().http_port, 80), path, reply)
        elif caller().host != GATEWAY_HOST:
            raise NotFound(_ELSEWHERE)
        elif host.partition(":")[0].lower() != GATEWAY_HOST:
            if scope["method"] != "GET" or path != SESSION:
                raise NotFound(NO_PAGE)
            await login.at_app(parts, host, login.query_of(scope), reply)
        elif scope["method"] == "POST" and path == "/logout":
            await login.logout(parts, headers, host, reply)
        elif scope["method"] not in ("GET", "HEAD"):
            raise NotFound(NO_PAGE)
        elif path == "/login":
            await login.login(parts, headers, login.query_of(scope), reply)
        else:
            title, body = await _shown(parts, login.session(headers), path)
            await html.page(reply, title, body)
    except Unauthenticated as error:
        await login.explain(reply, error.message)
    except FlytedError as error:
        said = [html.paragraph(error.message), html.paragraph(error.hint), html.link("/", "All apps")]
        title = "Not found" if error.http_status == NotFound.http_status else "The request failed"
        await html.page(reply, title, said, status=error.http_status)


async def _shown(parts: Parts, token: str, path: str) -> tuple[str, list[str]]:
    await parts.daemon.whose(token)
    if path == "/":
        return await views.apps(parts, token)
    found = _PAGE.fullmatch(path)
    if found is None:
        raise NotFound(NO_PAGE)
    if found["kind"] == "runs":
        return views.run(parts, found["name"])
    return await views.app(parts, token, found["project"], found["domain"], found["name"])
