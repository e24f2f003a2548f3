"""Which cookies of one app reach another one, in a real browser: what SECURITY.md says, with Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.machine.kit.users import alice, by, forget_apps, give, serve

pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed: apt install chromium"
)

SOURCE = """
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
SET = [
    "own=1; Max-Age=600",
    "tossed=1; Domain=apps.localhost; Max-Age=600",
    "odd=1;\\t DOMAIN = .apps.localhost;Max-Age=600",
    "twice=1; Domain=x; Domain=apps.localhost; Max-Age=600",
    "__Host-forged=1; Domain=apps.localhost; Secure; Path=/; Max-Age=600",
]
SCRIPT = '''<p id=p></p><script>
document.cookie = "scripted=1; domain=apps.localhost; max-age=600"
document.cookie = "__Host-scripted=1; domain=apps.localhost; secure; path=/; max-age=600"
p.textContent = "done"
</script>'''

@app.get("/set")
async def set_cookies():
    answer = HTMLResponse("set")
    for cookie in SET:
        answer.headers.append("set-cookie", cookie)
    return answer

@app.get("/script")
async def script():
    return HTMLResponse(SCRIPT)

@app.get("/seen")
async def seen(request: Request):
    return sorted(request.cookies)

env = FastAPIAppEnvironment(
    name=%r, app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", "websockets"),
)
"""


@pytest.fixture(scope="module")
def urls() -> Iterator[tuple[str, str]]:
    """Two apps of the same code, and a browser that trusts them."""
    alice("mkdir", "-p", ".pki/nssdb")
    if by("alice", "certutil", "-L", "-d", "sql:.pki/nssdb").returncode:
        alice("certutil", "-N", "--empty-password", "-d", "sql:.pki/nssdb")
    alice("sudo", "flytectl", "ca", "install")
    names = ("cookie-one", "cookie-two")
    files = [give(f"{name.replace('-', '_')}.py", SOURCE % name) for name in names]
    one, two = (serve(file) for file in files)
    yield one, two
    forget_apps("cookie-")


def page(address: str) -> str:
    """What the browser shows."""
    words = ("--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir=chromium", "--dump-dom")
    return alice("chromium", *words, address).stdout


def test_cookies_stay_with_the_app_that_set_them(urls: tuple[str, str]) -> None:
    """However an answer spells the domain. What a script sets goes further, but not under a __Host- name."""
    alice("rm", "-rf", "chromium")
    one, two = urls
    assert "set" in page(f"{one}/set")
    seen = page(f"{one}/seen")
    assert [name for name in ("own", "tossed", "odd", "twice", "__Host-forged") if f'"{name}"' not in seen] == []
    assert "[]" in page(f"{two}/seen")
    assert "done" in page(f"{one}/script")
    assert '["scripted"]' in page(f"{two}/seen")
