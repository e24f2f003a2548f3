"""A cookie that an app sets by an answer is for that app's host, however it is spelled. Against a real HAProxy.

All apps are one site to a browser, so ``Domain=apps.localhost`` would have one app's cookie sent to all others.
"""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest

from tests.host.haproxy import App, Machine, needs_haproxy

pytestmark = [pytest.mark.slow, needs_haproxy]

COOKIES = {  # as the app says it → as the client gets it; "": not at all
    "a=1": "a=1",
    "a=1; Path=/; Secure; HttpOnly": "a=1; Path=/; Secure; HttpOnly",
    "a=1; Domain=apps.localhost": "a=1",
    "a=1; domain=apps.localhost; Path=/": "a=1; Path=/",
    "a=1;DOMAIN=.apps.localhost;Path=/": "a=1;Path=/",
    "a=1; Path=/; Domain = apps.localhost ; Secure": "a=1; Path=/; Secure",
    "a=1;\t dOmAiN\t=\tapps.localhost": "a=1",
    "a=1; Domain=x; Domain=apps.localhost": "a=1",
    "a=1; Domain=x; Path=/; Domain=y; Secure; domain=z": "a=1; Path=/; Secure",
    "a=1; Domain=": "a=1",
    'a="1; Domain=apps.localhost"': 'a="1',
    "a=1, b=2; Domain=apps.localhost": "a=1, b=2",
    "; Domain=apps.localhost": "",
    "a=1" + "; Domain=x" * 9: "",
    "a=1; X-Domain=y": "a=1; X-Domain=y",
    "a=domain=x": "a=domain=x",
    "domain=x; Path=/": "domain=x; Path=/",
    "a=1; Domain": "a=1; Domain",
    "__Host-a=1; Path=/; Secure": "__Host-a=1; Path=/; Secure",
    "a=Δ; Domain=apps.localhost": "a=Δ",
}


def got(box: Machine, app: App, *cookies: str) -> list[str]:
    """The cookies of an answer, as the client gets them."""
    lines = "".join(f"Set-Cookie: {cookie}\r\n" for cookie in cookies)
    app.answers[b"/"] = f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n".encode()
    head = box.get()[1]
    fields = [line.partition(":") for line in head.split("\r\n")[1:]]
    return [value.strip() for name, _, value in fields if name.lower() == "set-cookie"]


@pytest.mark.parametrize("cookie", COOKIES)
def test_a_cookie_is_for_its_host(box: Machine, app: App, cookie: str) -> None:
    """As a browser takes it apart (RFC 6265 5.2), no domain is left in it; the rest is."""
    found = got(box, app, cookie)
    assert [text for text in found if text] == [text for text in (COOKIES[cookie],) if text]
    for attribute in [part for text in found for part in text.split(";")[1:]]:
        name, is_one, _ = attribute.partition("=")
        assert (name.strip(" \t").lower(), is_one) != ("domain", "=")


def test_several_cookies_of_one_answer_are_each_looked_at(box: Machine, app: App) -> None:
    """In their order, with what they say of themselves, also where another has a domain."""
    found = got(box, app, "a=1; Domain=apps.localhost; Path=/", "b=2", "c=3; Max-Age=5; Domain=x", "d=4; Secure")
    assert found == ["a=1; Path=/", "b=2", "c=3; Max-Age=5", "d=4; Secure"]
    many = "x=1" + "; Domain=apps.localhost" * 5
    assert [text for text in got(box, app, "a=1", many, "b=2; Domain=x") if text] == ["a=1", "b=2"]
    assert [SimpleCookie(text)[name]["domain"] for text, name in zip(found, "abcd", strict=True)] == [""] * 4
