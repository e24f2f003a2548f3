"""The page that a person at a browser gets while an app starts, with Chromium, and with what is no browser."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.machine.kit import users
from tests.machine.kit.apps import write
from tests.machine.kit.chromium import chromium
from tests.machine.kit.freezers import until_frozen
from tests.machine.kit.programs import sleeps
from tests.machine.kit.settings import settings
from tests.machine.kit.units import sh
from tests.machine.kit.users import alice, curl, forget_apps, until

APP, COLD = "paged-a", "paged-f"
START_S = 4
SLOW = f"""
time.sleep({START_S})
SEEN = []
@app.middleware("http")
async def note(request, call_next):
    SEEN.append(request.url.path + "?" + str(request.query_params))
    return await call_next(request)
@app.get("/seen")
async def seen():
    return SEEN
"""
VISIT = [
    "-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-Dest: document", "-H", "Sec-Fetch-Site: none",
    "-H", "Accept: text/html,*/*;q=0.8",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_apps("paged-")


@pytest.fixture(scope="module")
def url() -> str:
    """An app that takes some seconds to start, and sleeps after one without a request."""
    return users.serve(write(APP, at_start=SLOW, scaledown=1)).rstrip("/")


def asleep(name: str) -> None:
    """Until it sleeps, and the ingress knows it."""
    until(lambda: sleeps(name))
    time.sleep(0.5)


def seen(url: str) -> list[str]:
    """The requests that this run of the app has had."""
    return list(json.loads(curl(f"{url}/seen")[1]))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed: apt install chromium")
def test_a_browser_sees_the_start_and_then_the_app(url: str) -> None:
    """Nobody touches it. The app gets the visit once, and is kept awake by it although it sleeps after a second."""
    alice("sudo", "flytectl", "ca", "install")
    asleep(APP)
    texts: list[str] = []
    with chromium() as browser:
        browser.go(f"{url}/?code=once")

        def shown() -> bool:
            texts.append(browser.text())
            return '"pid"' in texts[-1]

        until(shown)
        found = seen(url)
    pages = [text for text in texts if "is starting" in text]
    assert pages
    assert all(text.startswith(f"{APP} is starting") for text in pages)
    assert any("Its code is being loaded." in text for text in pages)
    assert found.count("/?code=once") == 1


def test_programs_wait_as_ever(url: str) -> None:
    """They come while a browser's visit starts the app; none of them gets the page, and each is answered once."""
    asleep(APP)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        visit = pool.submit(curl, f"{url}/visit", *VISIT)
        time.sleep(0.2)
        others = [pool.submit(curl, f"{url}/?n={n}", *(() if n % 2 else ("-X", "POST"))) for n in range(6)]
        assert [each.result()[0] for each in others] == [200] * 6
    status, body = visit.result()
    assert (status, "http-equiv=refresh" in body) == (503, True)
    assert time.monotonic() - began >= START_S - 1
    found = seen(url)
    assert sorted(each for each in found if each.startswith("/?n=")) == [f"/?n={n}" for n in range(6)]
    assert "/visit?" not in found
    assert curl(f"{url}/?up", *VISIT)[0] == 200


def test_a_browser_whose_flyted_is_down_waits_for_the_app(url: str) -> None:
    """The start needs no flyted, and then nobody says what it does."""
    asleep(APP)
    sh("systemctl", "stop", "flyted.service")
    try:
        assert curl(f"{url}/?alone", *VISIT)[0] == 200
    finally:
        subprocess.run(["systemctl", "start", "flyted.service"], check=True)
    until(lambda: sleeps(APP))


def test_a_frozen_app_answers_a_browser_at_once() -> None:
    """Its visit is not held back: it thaws in milliseconds."""
    url = users.serve(write(COLD, scaledown=1), "--idle", "freeze")
    assert curl(url)[0] == 200
    until_frozen(COLD)
    status, head = curl(url, "-i", *VISIT)
    assert status == 200
    assert "server-timing: wake;dur=" in head.lower()


def test_an_operator_may_want_no_page(url: str) -> None:
    """Every browser waits then."""
    with settings("[ingress]\nwaiting_page = false"):
        until(lambda: sleeps(APP))
        assert curl(f"{url}/?none", *VISIT)[0] == 200
