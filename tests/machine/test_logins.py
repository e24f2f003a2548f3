"""How a browser logs in to an app that requires a token, and where no login leads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from flyted.contract.errors import PermissionRefused, Unauthenticated
from tests.machine.kit.tokens import APP, api, guarded_app, visit
from tests.machine.kit.users import alice, curl


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the app answers."""
    with guarded_app() as url:
        yield url


def test_a_browser_is_sent_to_the_login(url: str) -> None:
    """On our own host, with where it wanted to go."""
    done = alice("curl", "-sS", "-o", "/dev/null", "-D", "-", "-H", "Accept: text/html", f"{url}/docs?a=b").stdout
    to = next(line.split(" ", 1)[1].strip() for line in done.splitlines() if line.lower().startswith("location:"))
    parts = urlsplit(to)
    assert (parts.hostname, parts.path, parts.port) == ("flyted.localhost", "/login", urlsplit(url).port)
    assert parse_qs(parts.query) == {"app": [urlsplit(url).hostname], "next": ["/docs?a=b"]}


def test_a_browser_logs_in_and_gets_a_cookie_for_the_app(url: str) -> None:
    """The whole way, as the gateway's pages go it; the app sees no cookie of ours."""
    link = urlsplit(alice("flytectl", "login").stdout.strip())
    (code,) = parse_qs(link.query)["code"]
    pages = api("login.redeem", code=code, app_id="")["token"]
    assert visit(url, cookie=f"__Host-flyted={pages}")[0] == 401, "the pages' cookie is for the pages"
    passed = api("login.pass", pages, app_id=urlsplit(url).hostname)
    assert passed["url"] == f"{url}/.flyted/session"
    cookie = api("login.redeem", code=passed["code"], app_id=APP)["token"]
    status, body = visit(url, cookie=f"theirs=1; __Host-flyted={cookie}")
    assert status == 200
    assert "cookie: theirs=1" in json.loads(body)
    with pytest.raises(Unauthenticated):
        api("login.redeem", code=code, app_id="")
    with pytest.raises(PermissionRefused):
        api("app.list", cookie, project="", domain="")
    api("login.end", pages)
    with pytest.raises(Unauthenticated):
        api("whoami", pages)


def test_a_browser_goes_the_whole_way_by_links(url: str) -> None:
    """The link, a cookie for the pages, on to the app with one for it; then out again, and nothing opens any more."""
    jar = ("-b", "jar", "-c", "jar", "-H", "Accept: text/html", "-L", "--max-redirs", "5")
    alice("rm", "-f", "jar")
    status, body = curl(url, *jar)
    assert (status, "flytectl login" in body) == (401, True), "the page says what to type"
    status, body = curl(alice("flytectl", "login").stdout.strip(), *jar)
    assert (status, "x-flyte-user: alice" in body) == (200, True), "and goes on to where the browser wanted to go"
    assert "flyted_" not in body
    kept = alice("cat", "jar").stdout
    assert kept.count("__Host-flyted\t") == 2
    assert all("#HttpOnly_" in line for line in kept.splitlines() if "__Host-flyted\t" in line)
    status, body = curl(f"{url}/openapi.json", *jar)
    assert (status, json.loads(body)["info"]["title"]) == (200, "FastAPI")
    port = f":{urlsplit(url).port}" if urlsplit(url).port else ""
    pages = f"https://flyted.localhost{port}"
    alice("curl", "-sS", "-b", "jar", "-X", "POST", "-H", f"Origin: {pages}", f"{pages}/logout")
    assert curl(url, *jar)[0] == 401


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed: apt install chromium")
def test_a_real_browser_logs_in(url: str) -> None:
    """Chromium keeps and sends our cookies as we mean it: the app, the login page, the link, and back at the app."""
    alice("rm", "-rf", "chromium")
    alice("sudo", "flytectl", "ca", "install")

    def seen(address: str) -> str:
        words = ("--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir=chromium", "--dump-dom")
        return alice("chromium", *words, address).stdout

    assert "flytectl login" in seen(f"{url}/?asked=for")
    assert "x-flyte-user: alice" in seen(alice("flytectl", "login").stdout.strip())
    assert "x-flyte-user: alice" in seen(url), "the login lasts when the browser is closed"


def test_a_login_leads_nowhere_else(url: str) -> None:
    """Whatever `next` says, the browser stays on the app's host."""
    alice("rm", "-f", "jar")
    curl(alice("flytectl", "login").stdout.strip(), "-b", "jar", "-c", "jar", "-L")
    port = f":{urlsplit(url).port}" if urlsplit(url).port else ""
    app = urlsplit(url).hostname
    for bad in (
        "//evil.example",
        "https://evil.example",
        "%2F%2Fevil.example",
        "/%5Cevil.example",
        "javascript:alert(1)",
    ):
        login = f"https://flyted.localhost{port}/login?app={app}&next={bad}"
        for _ in range(2):  # the redirect to the app, and the one on its host
            head = alice("curl", "-sS", "-D", "-", "-o", "/dev/null", "-b", "jar", "-c", "jar", login).stdout
            login = next(x.split(" ", 1)[1].strip() for x in head.splitlines() if x.lower().startswith("location:"))
            assert login.startswith((f"{url}/.flyted/session?", "/")), login
            assert not login.startswith(("//", "/\\")), login
            login = login if login.startswith("https:") else f"{url}{login}"
