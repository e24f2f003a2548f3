"""A private package index, as a user meets it: the token is a secret of the store, and only the build reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build import test_private_index
from tests.build.harness import wheel
from tests.machine.kit.leaks import Search
from tests.machine.kit.users import alice, answer, curl, forget_apps, forget_secrets, give, refused, serve

ADDRESS = "192.0.2.77"  # of this machine's loopback interface: builds reach no 127.0.0.1 (RFC 5737)
TOKEN = test_private_index.TOKEN
SERVER = """
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from tests.build.test_private_index import Index
Index.folder = Path(sys.argv[1])
server = ThreadingHTTPServer((sys.argv[2], 0), Index)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
SOURCE = """
import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
def root() -> dict[str, bool]:
    import os
    import acme
    token = any({token!r} in value for value in os.environ.values())
    return {{"acme": acme.VERSION == "1.0", "token": token, "jq": os.path.exists("/usr/bin/jq")}}

image = flyte.Image.from_debian_base(python_version={python!r}){front}.with_pip_packages(
    "fastapi", "uvicorn"
).with_pip_packages("acme", index_url={index!r}, {mounts})
env = FastAPIAppEnvironment(name="private-index{name}", app=app, requires_auth=False, image=image)
"""
MOUNTS = 'secret_mounts=flyte.Secret("acme-index", as_env_var="ACME_TOKEN")'


@pytest.fixture(scope="module", autouse=True)
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for who knows the password, on an address of this machine; host and port."""
    forget_secrets("acme-index")
    folder = tmp_path_factory.mktemp("index")
    wheel(folder, "acme")
    subprocess.run(["ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo"], check=True)
    command = [sys.executable, "-c", SERVER, str(folder), ADDRESS]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as server:
        assert server.stdout is not None
        yield f"{ADDRESS}:{server.stdout.readline().strip()}"
        server.terminate()
    subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)
    forget_apps("private-index")


def app(address: str, mounts: str = MOUNTS, *, rooted: bool = False) -> str:
    """Alice's file. ``rooted``: its image has a package of apt before those of Python, and so is made of layers."""
    more = {"name": "-rooted", "python": (3, 11), "front": '.with_apt_packages("jq")'}
    how = more if rooted else {"name": "", "python": (3, 13), "front": ""}
    return give("private_index.py", SOURCE.format(index=address, mounts=mounts, token=TOKEN[:8], **how))


def test_a_password_in_the_file_is_refused_with_what_to_do_and_not_shown(index: str) -> None:
    """Nothing is stored."""
    said = refused("flytectl", "serve", app(f"http://me:{TOKEN}@{index}/simple", ""), status=2)
    assert TOKEN not in said
    assert "flytectl secret create INDEX_TOKEN" in said


def test_a_secret_that_is_not_there_is_named_before_anything_is_built(index: str) -> None:
    """With the command that makes it."""
    said = refused("flytectl", "serve", app(f"http://me:$ACME_TOKEN@{index}/simple"), status=4)
    assert "flytectl secret create acme-index" in said


@pytest.mark.parametrize("rooted", [False, True])
def test_a_package_of_a_private_index(index: str, *, rooted: bool) -> None:
    """Built with the secret, which then is nowhere in the clear, and not in the app.

    Nor in the layers of an image with a root of its own, in what is recorded of them, and in the journal.
    """
    alice("flytectl", "secret", "create", "acme-index", "-", "--replace", typed=TOKEN)
    search = Search(TOKEN, f"me:{TOKEN}")
    with search.never_in_command_lines():
        url = serve(app(f"http://me:$ACME_TOKEN@{index}/simple", rooted=rooted))
    status, body = curl(url)
    assert (status, json.loads(body)) == (200, {"acme": True, "token": False, "jq": rooted})
    found = answer("app", "get", url.partition("//")[2].partition(".")[0])
    assert (found["image"]["path"] == "") is rooted
    assert search.found() == []
    alice("flytectl", "secret", "delete", "--yes", "acme-index")
