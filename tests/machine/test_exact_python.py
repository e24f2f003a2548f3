"""A Python that Debian does not have, with packages of apt: uv fetches it from a mirror when the image is built.

python-build-standalone itself is not to be had without its site, so the archive is made of this machine's Python, in
the layout that uv expects, with the libraries that it is linked with and their ld.so: it runs in an older Debian. uv
gets it by its own list of what there is, and by UV_PYTHON_INSTALL_MIRROR, as a real one.
"""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.host.machine import system_python
from flyted.plan.images.from_spec import DEBIANS_PYTHON
from tests.machine.kit.settings import settings
from tests.machine.kit.units import must, sh
from tests.machine.kit.users import by, curl, forget_apps, give

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(system_python() == DEBIANS_PYTHON, reason="this machine has no other Python than the image"),
]
ADDRESS = "192.0.2.78"  # of this machine's loopback interface: steps reach no 127.0.0.1 (RFC 5737)
SITE = "https://github.com/astral-sh/python-build-standalone/releases/download"
ARCHIVE = "20260101/python.tar.gz"
MINOR = system_python()
VERSION = sys.version.split()[0]
KEY = f"cpython-{VERSION}-linux-x86_64-gnu"
PLACE = f"/opt/uv/python/{KEY}"
APP = f"""
import subprocess, sys
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
def look():
    jq = subprocess.run(["jq", "-n", "6*7"], capture_output=True, text=True).stdout.strip()
    debian = open("/etc/debian_version").read().partition(".")[0]
    return {{"jq": jq, "version": sys.version.split()[0], "base": sys.base_prefix, "debian": debian}}

env = FastAPIAppEnvironment(
    name="exact-python", app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version={tuple(map(int, MINOR.split(".")))})
    .with_apt_packages("jq").with_pip_packages("fastapi", "uvicorn"),
)
"""


def _libraries(folder: Path) -> Iterator[Path]:
    """The libraries that the files of a folder are linked with, and ld.so."""
    files = [str(path) for path in folder.rglob("*") if path.suffix == ".so" or path.name == "program"]
    told = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    yield from map(Path, set(re.findall(r"(?:=> |^\t)(/\S+) \(0x", told, re.MULTILINE)))


def archive(target: Path) -> None:
    """Make an archive as python-build-standalone has it: python/bin, python/lib."""
    root = target.with_name("python")
    shutil.rmtree(root, ignore_errors=True)
    (root / "bin").mkdir(parents=True)
    for name in ("python", "python3"):
        (root / "bin" / name).symlink_to(f"python{MINOR}")
    left_out = shutil.ignore_patterns("__pycache__", "test", "dist-packages", "EXTERNALLY-MANAGED", "config-*")
    shutil.copytree(f"/usr/lib/python{MINOR}", root / "lib" / f"python{MINOR}", ignore=left_out)
    shutil.copy(f"/usr/bin/python{MINOR}", root / "lib/program")
    for library in _libraries(root / "lib"):
        shutil.copy(library, root / "lib")
    begin = root / "bin" / f"python{MINOR}"
    lib = f"{PLACE}/lib"
    words = f'{lib}/ld-linux-x86-64.so.2 --argv0 "$0" --library-path {lib} {lib}/program "$@"'
    begin.write_text(f"#!/bin/sh\nexec {words}\n")
    begin.chmod(0o755)
    with tarfile.open(target, "w:gz", compresslevel=1) as made:
        made.add(root, "python")
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def mirror() -> Iterator[list[str]]:
    """A server of Pythons; what it was asked for."""
    folder, asked = Path("/srv/flyted-test-pythons"), list[str]()
    (folder / ARCHIVE).parent.mkdir(parents=True, exist_ok=True)
    archive(folder / ARCHIVE)
    major, minor, patch = map(int, VERSION.split("."))
    entry = {
        "name": "cpython", "arch": {"family": "x86_64", "variant": None}, "os": "linux", "libc": "gnu",
        "major": major, "minor": minor, "patch": patch, "prerelease": "", "url": f"{SITE}/{ARCHIVE}", "sha256": None,
        "variant": None, "build": "20260101",
    }  # fmt: skip
    (folder / "list.json").write_text(json.dumps({KEY: entry}))

    class Server(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_words: object) -> None:
            asked.append(self.path)

    must("ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo")
    server = http.server.ThreadingHTTPServer((ADDRESS, 0), functools.partial(Server, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://{ADDRESS}:{server.server_address[1]}"
    variables = f'UV_PYTHON_INSTALL_MIRROR = "{address}"\nUV_PYTHON_DOWNLOADS_JSON_URL = "{address}/list.json"'
    with settings(f"[images.environment]\n{variables}"):
        yield asked
    server.shutdown()
    server.server_close()
    must("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo")
    shutil.rmtree(folder)
    forget_apps("exact-python")


def test_the_python_that_an_app_asks_for_with_packages_of_apt(mirror: list[str]) -> None:
    """In a Debian bookworm, whose own is another; its environment has it, and its server function runs on it."""
    done = by("alice", "flytectl", "serve", give("exact_python.py", APP), seconds=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"uv python install {MINOR}" in done.stdout + done.stderr
    assert f"/{ARCHIVE}" in mirror
    status, body = curl("https://exact-python.apps.localhost/")
    assert status == 200, body + sh("journalctl", "-n30", "-o", "cat", "-u", "flyted-app-exact-python-r*.service")
    found = json.loads(body)
    assert found.pop("base").startswith(f"/opt/uv/python/cpython-{MINOR}")
    assert found == {"jq": "42", "version": VERSION, "debian": "12"}
