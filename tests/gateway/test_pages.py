"""Pages and logins: who sees what, what is escaped, where a browser is sent."""

from __future__ import annotations

import http.client
import re
import time
from typing import Any

import pytest

from flyted.contract.errors import HostFailure, Unauthenticated
from tests.answers import app_status
from tests.gateway.harness import NO_APP, TOKEN, Running

pytestmark = pytest.mark.slow

HOST = "flyted.localhost"
COOKIE = f"__Host-flyted={TOKEN}"
PAGE = "/v2/domain/development/project/p1/apps/hello"


class Answer:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.text = answer.status, answer.read().decode()
        self.headers = answer.headers
        self.cookies = answer.headers.get_all("set-cookie") or []


def go(gateway: Running, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers={"Host": HOST, **named})
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", PAGE, "/v2/domain/d/project/p/runs/r0", "/nothing"])
@pytest.mark.parametrize("cookie", ["", "__Host-flyted=", "__Host-flyted=x", f"__Host-flyted={TOKEN[:-1]}x", 'a="'])
def test_a_stranger_sees_how_to_log_in(gateway: Running, path: str, cookie: str) -> None:
    """And nothing about apps, not even whether there is one."""
    gateway.flyted.answers("app.get", NO_APP)
    answer = go(gateway, path, Cookie=cookie)
    assert (answer.status, "flytectl login" in answer.text) == (401, True)
    assert [verb for verb in gateway.flyted.verbs() if verb != "app.list"] == []


@pytest.mark.parametrize("path", ["/", "/login?code=x", PAGE, "/.flyted/session?code=x"])
def test_the_api_at_another_domain_has_no_pages(gateway: Running, path: str) -> None:
    """Also for a browser with the cookie; it says where they are."""
    at = "flyted.apps.example.org"
    answer = go(gateway, path, Host=at, X_Flyted_Host=at, Cookie=COOKIE)
    assert answer.status == 404
    assert "its pages are at https://flyted.localhost" in answer.text
    assert answer.cookies == []


def test_the_apps_page_shows_state_address_and_last_lines(gateway: Running) -> None:
    """What the SDK's address leads to."""
    gateway.flyted.answers("app.get", {"result": {"app": app_status(reason="it <b>sleeps</b>"), "spec": {}}})
    line = {"kind": "log", "time": 1, "revision": 1, "source": "app", "text": "<script>alert(1)</script>\x1b[31m"}
    gateway.flyted.answers("app.logs", {"event": line}, {"result": {}})
    answer = go(gateway, PAGE, Cookie=COOKIE)
    assert answer.status == 200
    assert "https://hello.apps.localhost" in answer.text
    assert "&lt;script&gt;" in answer.text
    assert "it &lt;b&gt;sleeps" in answer.text
    assert "<script" not in answer.text
    assert "\x1b" not in answer.text


def test_every_page_forbids_scripts_and_frames(gateway: Running) -> None:
    """By its headers, whatever its text."""
    gateway.flyted.answers("app.list", {"result": {"apps": [app_status()]}})
    for answer in (go(gateway, "/", Cookie=COOKIE), go(gateway, "/login"), go(gateway, "/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("/docs", "https://hello.apps.localhost/docs"), ("/", "https://hello.apps.localhost/"),
        ("https://grafana.example/d/1", "https://grafana.example/d/1"), ("@evil.example/", ""),
        (".evil.example/", ""), (":443@evil.example", ""), ("//evil.example", ""), ("/\\evil.example", ""),
        ("javascript:alert(1)", ""), ("https://a@evil.example/", ""), ("", ""), ("/a b", ""),
    ],
)  # fmt: skip
def test_a_link_stays_with_its_app(gateway: Running, path: str, leads: str) -> None:
    """What is put behind the app's address cannot make another host of it; whatever flyted lets through."""
    known = app_status(links=[["Docs", path]])
    gateway.flyted.answers("app.get", {"result": {"app": known, "spec": {}}})
    gateway.flyted.answers("app.logs", {"result": {}})
    text = go(gateway, PAGE, Cookie=COOKIE).text
    found = re.findall(r'href="([^"]*)"[^>]*>Docs<', text)
    assert found == ([leads] if leads else [])
    assert "Docs" in text


def test_every_answer_has_the_headers_of_a_page(gateway: Running) -> None:
    """Redirects, plain words and answers of the API too: a browser shall make nothing else of them."""
    gateway.flyted.anonymous("login.redeem", {"result": {"token": TOKEN, "user": "alice", "expires_at": 4e9}})
    answers = [
        go(gateway, "/login?code=x"), go(gateway, "/upload/x", "PUT"),
        go(gateway, "/flyteidl2.app.AppService/List", "POST"),
        go(gateway, "/flyteidl2.auth.AuthMetadataService/GetOAuth2Metadata", "POST", Content_Type="application/json"),
    ]  # fmt: skip
    assert answers[0].status == 303
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers.get_all("content-security-policy") == ["default-src 'none'; frame-ancestors 'none'"]


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "%00", "A", "a%0d%0aSet-Cookie:x", "é"])
def test_a_name_that_is_none_is_refused(gateway: Running, name: str) -> None:
    """Nothing of an address reaches flyted or a header unchecked."""
    path = (
        f"/v2/domain/development/project/p1/apps/{name}".encode().decode("latin-1") if name != "é" else PAGE + "%C3%A9"
    )
    answer = go(gateway, path, Cookie=COOKIE)
    assert answer.status in (400, 404)
    assert "app.get" not in gateway.flyted.verbs()
    assert answer.cookies == []


def test_a_code_becomes_a_cookie(gateway: Running) -> None:
    """Secure, for this host only, out of reach of scripts."""
    gateway.flyted.anonymous("login.redeem", {"result": {"token": TOKEN, "user": "alice", "expires_at": 4e9}})
    answer = go(gateway, "/login?code=abc")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = next(each for each in answer.cookies if each.startswith(f"{COOKIE};"))
    (age,) = [word.strip() for word in cookie.split(";") if "Max-Age" in word]
    assert 0 <= 4e9 - time.time() - int(age.removeprefix("Max-Age=")) < 60, "closing the browser does not end it"
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= {word.strip() for word in cookie.split(";")}
    assert gateway.flyted.calls[-1][1] == {"code": "abc", "app_id": ""}


def test_a_login_is_passed_on_at_the_port_that_the_browser_knows(gateway: Running) -> None:
    """Behind a forwarded port the machine's own leads nowhere."""
    url = "https://hello.apps.localhost:8443/.flyted/session"
    gateway.flyted.answers("login.pass", {"result": {"code": "c1", "url": url, "expires_at": 4e9}})
    for host, port in ((f"{HOST}:19443", ":19443"), (HOST, "")):
        answer = go(gateway, "/login?app=hello&next=%2F", Cookie=COOKIE, Host=host)
        assert answer.headers["location"] == f"https://hello.apps.localhost{port}/.flyted/session?code=c1&next=%2F"


def test_a_code_that_is_used_up_is_explained(gateway: Running) -> None:
    """No cookie."""
    gateway.flyted.anonymous("login.redeem", Unauthenticated("this login link has been used already or has expired"))
    answer = go(gateway, "/login?code=abc")
    assert (answer.status, "used already" in answer.text, answer.cookies) == (401, True, [])


def passed(gateway: Running) -> None:
    url = "https://hello.apps.localhost/.flyted/session"
    gateway.flyted.answers("login.pass", {"result": {"code": "c1", "url": url, "expires_at": 4e9}})


def test_an_app_is_reached_through_the_login(gateway: Running) -> None:
    """Not logged in: remembered where to go; after the login, on to the app, with a code for it."""
    passed(gateway)
    answer = go(gateway, "/login?app=hello.apps.localhost&next=%2Fx%3Fy%3D1")
    assert answer.status == 401
    (wanted,) = answer.cookies
    gateway.flyted.anonymous("login.redeem", {"result": {"token": TOKEN, "user": "alice", "expires_at": 4e9}})
    answer = go(gateway, "/login?code=abc", Cookie=wanted.split(";")[0])
    assert answer.headers["location"] == "/login?app=hello.apps.localhost&next=%2Fx%3Fy%3D1"
    answer = go(gateway, answer.headers["location"], Cookie=COOKIE)
    assert answer.headers["location"] == "https://hello.apps.localhost/.flyted/session?code=c1&next=%2Fx%3Fy%3D1"
    answer = go(gateway, "/.flyted/session?code=c1&next=%2Fx%3Fy%3D1", Host="hello.apps.localhost")
    assert answer.headers["location"] == "/x?y=1"
    assert gateway.flyted.calls[-1][1] == {"code": "c1", "app_id": "hello"}


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "", "/a%0d%0aX:y", "/é"],
)
def test_no_redirect_leads_elsewhere(gateway: Running, target: str) -> None:
    """`next` is a path of the same host, or the start page."""
    gateway.flyted.anonymous("login.redeem", {"result": {"token": TOKEN, "user": "alice", "expires_at": 4e9}})
    from urllib.parse import quote

    query = target if "%" in target else quote(target, safe="")
    answer = go(gateway, f"/.flyted/session?code=c1&next={query}", Host="hello.apps.localhost")
    assert (answer.status, answer.headers["location"]) == (303, "/")


def test_an_apps_host_has_no_other_page_of_ours(gateway: Running) -> None:
    """No RPC, no page, no upload under an app's name."""
    for method, path in (("GET", "/.flyted/other"), ("POST", "/.flyted/session"), ("GET", "/login"), ("GET", "/")):
        assert go(gateway, path, method, Host="hello.apps.localhost", Cookie=COOKIE).status == 404


@pytest.mark.parametrize("origin", ["", "https://evil.example", "null", f"https://{HOST}.evil.example"])
def test_another_site_logs_nobody_out(gateway: Running, origin: str) -> None:
    """A form elsewhere is not ours."""
    gateway.flyted.answers("login.end", {"result": {}})
    assert go(gateway, "/logout", "POST", Cookie=COOKIE, Origin=origin).status == 404
    assert gateway.flyted.verbs() == []


def test_logging_out_ends_the_token(gateway: Running) -> None:
    """And takes the cookie away."""
    gateway.flyted.answers("login.end", {"result": {}})
    answer = go(gateway, "/logout", "POST", Cookie=COOKIE, Origin=f"https://{HOST}")
    assert (answer.status, gateway.flyted.verbs()) == (303, ["login.end"])
    assert any("Max-Age=0" in cookie for cookie in answer.cookies)


@pytest.mark.parametrize("cookie", ["", "__Host-flyted=x", COOKIE], ids=["none", "bad", "ended"])
def test_logging_out_without_a_session_is_one_answer(gateway: Running, cookie: str, caplog: Any) -> None:
    """The cookie goes, and nothing is sent after the redirect."""
    gateway.flyted.answers("login.end", Unauthenticated("this token is none of flyted's"))
    answer = go(gateway, "/logout", "POST", Cookie=cookie, Origin=f"https://{HOST}")
    assert (answer.status, answer.headers["location"], answer.text) == (303, "/login", "")
    assert any(one.startswith("__Host-flyted=;") and "Max-Age=0" in one for one in answer.cookies)
    gateway.stop()  # the request has ended then
    assert "a request failed" not in caplog.text


def test_a_session_that_cannot_be_ended_keeps_its_cookie(gateway: Running) -> None:
    """The page says that it did not work: who believed to be logged out would leave a token behind."""
    gateway.flyted.answers("login.end", HostFailure("the disk is full"))
    answer = go(gateway, "/logout", "POST", Cookie=COOKIE, Origin=f"https://{HOST}")
    assert (answer.status, answer.cookies) == (500, [])
    assert "the disk is full" in answer.text


def test_a_fault_of_ours_shows_no_text_of_it(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on a page."""

    async def broken(*_words: Any, **_more: Any) -> None:
        raise KeyError("inner")

    monkeypatch.setattr(gateway.parts.daemon, "call", broken)
    answer = go(gateway, PAGE, Cookie=COOKIE)
    assert (answer.status, "KeyError" in answer.text, "inner" in answer.text) == (500, False, False)


def test_an_answer_that_cannot_be_read_is_said(gateway: Running) -> None:
    """With the field, and what to do: daemon and gateway are of different versions."""
    gateway.flyted.answers("app.get", {"result": {"app": {"name": "only"}, "spec": {}}})
    answer = go(gateway, PAGE, Cookie=COOKIE)
    assert answer.status == 502
    assert "AppStatus.project: it is missing" in answer.text


def test_a_page_that_is_not_there_leads_to_the_apps(gateway: Running) -> None:
    """For who has signed in."""
    answer = go(gateway, "/nothing", Cookie=COOKIE)
    assert (answer.status, "<h1>Not found</h1>" in answer.text) == (404, True)
    assert '<a href="/" rel="noreferrer">All apps</a>' in answer.text


def test_the_page_of_an_app_says_who_deployed_it_and_what_it_said(gateway: Running) -> None:
    """With what flyted says about it among its lines."""
    known = app_status(deployed_by="bob<", notes=["its own files"])
    gateway.flyted.answers("app.get", {"result": {"app": known, "spec": {}}})
    line = {"kind": "log", "time": 1, "revision": 0, "source": "flyted", "text": "app stop hello: done"}
    gateway.flyted.answers("app.logs", {"event": line}, {"result": {}})
    text = go(gateway, PAGE, Cookie=COOKIE).text
    assert "<th>Deployed by</th><td>bob&lt;</td>" in text
    assert "<th>Note</th><td>its own files</td>" in text
    assert "flyted: app stop hello: done" in text
