"""What an app is told about its own address was written by the ingress. Against a real HAProxy.

A framework puts a request's URL together from Host and target. With ``APP:443?`` as Host, Starlette before 1.0.1 found
an empty path in it, and vLLM asked for no key there: what is not a name and a port, or not a path, goes no further.
"""

from __future__ import annotations

import re

import pytest

from flyted.plan.ingress.request import HOST
from tests.attacks import http2
from tests.host.haproxy import A, App, Machine, needs_haproxy, parsed

pytestmark = [pytest.mark.slow, needs_haproxy]

NO_PORT_BEHIND = [
    "..", "?", "#", "/", "/x", "\\", ";", "@b", ":", ":0", ":0443", ":65536", ":99999", ":443?", ":443#", ":443/",
    ":443\\", ":443;x", ":443@b", ":443:443", ":443 x", ":abc", ":%2f", ":-1", ":+1", ":\u0664", ":<script>",
    "%2e", "%00", "_", "\u00e9", "[", "]", " x", "\tx", '"', "'", "{", "|", "^", "`", ", b",
]  # fmt: skip
NO_NAME = [
    f"x@{A}", f"u:p@{A}", f".{A}", f"?{A}", f"//{A}", f"https://{A}", "a..apps.localhost", "a_.apps.localhost", "[::1",
    "[::1]x", "[a.apps.localhost]",
]  # fmt: skip
HOSTS: dict[str, str | None] = {  # as sent → as the app gets it; None: it is refused
    A: A,
    "A.Apps.LocalHost": A,
    f"{A}.": A,
    f"{A}:443": f"{A}:443",
    f"{A}.:8443": f"{A}:8443",
    f"{A}:1": f"{A}:1",
    f"{A}:65535": f"{A}:65535",
    **dict.fromkeys([A + end for end in NO_PORT_BEHIND] + NO_NAME),
}

TARGETS: dict[str, str | None] = {  # as sent → as the app gets it; None: it is refused
    "/": "/",
    "/x?y=z": "/x?y=z",
    "//b.apps.localhost/x": "//b.apps.localhost/x",
    f"https://{A}": "/",
    f"https://{A}/": "/",
    f"http://{A}/x?y": "/x?y",
    f"HTTPS://{A}/x": "/x",
    f"https://{A}?x": None,
    f"https://{A}#x": None,
    f"ftp://{A}/x": None,
    f"foo://{A}/x": None,
    f"file://{A}/x": None,
    f"https:{A}": None,
    f"https:/{A}/x": None,
    "mailto:x": None,
    "x": None,
    "?x": None,
    "*": None,
    "/#x": None,
}


def told(app: App) -> list[tuple[str, str, str]]:
    """Target, Host and X-Forwarded-Host of what reached the app."""
    found = []
    for request in app.seen:
        first, *lines = request.decode().partition("\r\n\r\n")[0].split("\r\n")
        fields = [line.partition(": ")[::2] for line in lines]
        hosts = [value for name, value in fields if name == "host"]
        forwarded = [value for name, value in fields if name == "x-forwarded-host"]
        assert (len(hosts), len(forwarded)) == (1, 1), request
        found.append((first.split(" ")[1], hosts[0], forwarded[0]))
    return found


def request(method: str, target: str, host: str) -> bytes:
    """One request in HTTP/1.1."""
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


def by_http2(box: Machine, fields: http2.Fields) -> None:
    """One request in HTTP/2."""
    with http2.connected(box) as connection:
        http2.sent(connection, 1, fields)
        http2.frames(connection, 20, {(http2.DATA, 1), (http2.RST_STREAM, 1), (http2.GOAWAY, 0)})


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_is_a_name_and_perhaps_a_port(box: Machine, app: App, host: str) -> None:
    """All else is refused, by HTTP/1 and HTTP/2; what is let through, the app gets as we spell it."""
    wanted = HOSTS[host]
    status = parsed(box.send(request("GET", "/x", host)))[0]
    if wanted is None:
        assert (status in (400, 421), app.seen) == (True, [])
    else:
        assert (status, told(app)) == (200, [("/x", wanted, wanted)])


@pytest.mark.parametrize("host", HOSTS)
def test_neither_is_it_anything_else_by_http2(box: Machine, app: App, host: str) -> None:
    """HAProxy takes the usual port off before our rules; what then is no name and port is refused."""
    by_http2(box, http2.request(b"/x", host.encode()))
    for target, seen, forwarded in told(app):
        assert (target in ("/x", "//x"), re.fullmatch(HOST, seen) is not None, seen) == (True, True, forwarded)
        assert seen.partition(":")[0] == A
        assert "?" not in host
        assert "#" not in host
    assert app.seen or HOSTS[host] is None


@pytest.mark.parametrize("target", ["https://", "https:///x", "https://:443/x", "//", f"//{A}", "///x"])
def test_an_address_without_a_host_leads_nowhere_else(box: Machine, app: App, target: str) -> None:
    """HAProxy's versions differ in whether they refuse it."""
    box.send(request("GET", target, A))
    assert all((path[0], host, forwarded) == ("/", A, A) for path, host, forwarded in told(app))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_an_app_is_asked_for_a_path(box: Machine, app: App, method: str, target: str) -> None:
    """In the plain form, whatever form was sent; what has no path in it is refused."""
    wanted = TARGETS[target]
    status = parsed(box.send(request(method, target, A)))[0]
    if wanted is None:
        assert (400 <= status < 500, app.seen) == (True, [])
    else:
        assert (status, told(app)) == (200, [(wanted, A, A)])


@pytest.mark.parametrize("scheme", [b"https", b"http", b"foo", b"ftp", b"", b"https://x/?", b"HTTPS"])
@pytest.mark.parametrize("path", [b"/x", b"", b"*", b"x", b"?x", b"https://b/", b"//b/x"])
def test_neither_is_it_asked_for_anything_else_by_http2(box: Machine, app: App, scheme: bytes, path: bytes) -> None:
    """A scheme of one's own reached the app in the absolute form."""
    fields = http2.request(path)
    fields[1] = (b":scheme", scheme)
    by_http2(box, fields)
    for target, host, forwarded in told(app):
        assert (target in ("/", "/x", "//b/x"), host, forwarded) == (True, A, A)
    if (scheme, path) == (b"https", b"/x"):
        assert len(app.seen) == 1


@pytest.mark.parametrize("target", ["*", f"ftp://{A}/", f"foo://{A}/", "mailto:x"])
def test_no_redirect_is_made_of_what_is_no_path(box: Machine, app: App, target: str) -> None:
    """The port for HTTP has the same rules."""
    assert parsed(box.send_plain(request("GET", target, A)))[0] == 400
