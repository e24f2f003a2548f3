"""Programs that watch their own files: what is in the working folder are links, which lead to each revision's code."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.users import alice, answer, curl, forget_apps, give, until

APP = "watch-streamlit"
ENVIRONMENT = f"""
import datetime
import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name="{APP}", requires_auth=False, port=8080,
    args=["streamlit", "run", "main.py", "--server.port", "8080", "--server.headless", "true",
          "--browser.gatherUsageStats", "false"],
    include=["main.py", "words.py"],
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("streamlit"),
    scaling=flyte.app.Scaling(replicas=(0, 1), scaledown_after=datetime.timedelta(seconds=300)),
    resources=flyte.Resources(cpu=1, memory="1Gi"),
)
"""
PAGE = """
import streamlit as st
import words

with open("runs", "a") as file:
    file.write("x")
st.title(f"the page is {words.WORD} and {word}")
"""
BROWSER = """
import ssl, sys
from websockets.sync.client import connect

address, seconds = sys.argv[1], float(sys.argv[2])
options = {
    "ssl": ssl.create_default_context(cafile="/etc/ssl/certs/ca-certificates.crt"),
    "origin": address,
    "max_size": None,
    "open_timeout": 60,  # the app may have to start first
}
found, count = "", 0
with connect(address.replace("https", "wss") + "/_stcore/stream", **options) as page:
    page.send(b"\\x5a\\x00")  # BackMsg.rerun_script, as Streamlit's script in a browser sends it first
    print("connected", flush=True)
    try:
        while True:
            message = page.recv(timeout=seconds if found else 60)
            count += 1
            if (at := message.find(b"the page is ")) >= 0:
                found = message[at : at + 40].decode(errors="replace").split("\\n")[0]
    except TimeoutError:
        print(count, found)
"""
QUIET_S = 3


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_apps(APP)


def serve(word: str) -> str:
    """Serves a version, in which both the page and what it imports are others; its URL."""
    give("watched/main.py", PAGE.replace("{word}", word))
    give("watched/words.py", f"WORD = {word!r}\n")
    file = give("watched/dash_app.py", ENVIRONMENT)
    return alice("sh", "-c", f"cd watched && flytectl serve -q {Path(file).name}").stdout.strip()


def browse(url: str) -> tuple[int, str]:
    """A visit that lasts until nothing comes for some seconds: how many messages came, and what the page said."""
    python = answer("app", "get", APP)["image"]["path"] + "/bin/python"
    lines = alice(python, give("browser.py", BROWSER), url, str(QUIET_S)).stdout.splitlines()
    count, _, said = lines[-1].partition(" ")
    return int(count), said


def cpu_s(revision: int) -> float:
    """The processor's time of a revision until now."""
    words = ["systemctl", "show", "--value", "--property=CPUUsageNSec", f"flyted-app-{APP}-r{revision}-0.service"]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout) / 1e9


def runs() -> int:
    """How often Streamlit has run the page, in all revisions."""
    file = Path(f"/var/lib/private/flyted-app-{APP}/work/runs")
    return len(file.read_text()) if file.exists() else 0


def test_streamlit_shows_each_version_and_runs_a_page_once_for_each_visit() -> None:
    """Its watcher sees links, and those of a deploy beside it; nothing of that has it run the page again."""
    url, before = serve("first"), runs()
    assert curl(f"{url}/_stcore/health") == (200, "ok")
    count, said = browse(url)
    assert said.startswith("the page is first and first")
    assert count < 30
    assert runs() == before + 1
    revision = answer("app", "get", APP)["revision"]
    used = cpu_s(revision)
    time.sleep(QUIET_S)
    assert cpu_s(revision) - used < 0.1 * QUIET_S, "nobody looks, and nothing loops"
    serve("other")
    assert browse(url)[1].startswith("the page is other and other")
    assert runs() == before + 2
    alice("flytectl", "app", "sleep", APP)
    assert browse(url)[1].startswith("the page is other and other")
    assert runs() == before + 3


def test_streamlits_page_that_is_open_over_a_deploy_does_not_run_again() -> None:
    """Its revision goes on for as long as the drain takes; the links that change meanwhile are not its own."""
    url = serve("third")
    before = runs()
    python = answer("app", "get", APP)["image"]["path"] + "/bin/python"
    words = ["setpriv", "--reuid=alice", "--regid=alice", "--init-groups", "--", python, "/home/alice/browser.py", url]
    with subprocess.Popen([*words, "15"], stdout=subprocess.PIPE, text=True) as visit:
        until(lambda: runs() == before + 1)
        serve("last")
        assert visit.communicate()[0].rstrip().split(" ", 1)[1].startswith("the page is third and third")
    assert runs() == before + 1
    assert browse(url)[1].startswith("the page is last and last")
