"""A private index: the builder's real uv against a server that wants a password."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.build.harness import HASH, Builds, wheel

pytestmark = pytest.mark.slow

TOKEN = "sesame-0123456789"


class Index(BaseHTTPRequestHandler):
    """The simple API (PEP 503) of one folder of wheels, for who knows the password."""

    folder: Path

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        if given != "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.end_headers()
            return
        file = self.folder / Path(self.path).name
        if file.suffix == ".whl":
            body = file.read_bytes()
        else:
            names = [each.name for each in self.folder.glob(f"{Path(self.path).name}-*.whl")]
            body = "".join(f'<a href="/files/{name}">{name}</a>' for name in names).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if file.suffix == ".whl" else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_words: object) -> None:
        """Says nothing."""


@pytest.fixture
def index(builds: Builds) -> Iterator[str]:
    """Where it listens: host and port."""
    wheel(builds.packages, "acme")
    Index.folder = builds.packages
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def recipe(builds: Builds, options: list[str], token: str = TOKEN) -> None:
    """The recipe and the secret, as the unit's credentials."""
    builds.recipe(["acme"])
    path = builds.base / "credentials/recipe"
    content = json.loads(path.read_text())
    content["installs"][0]["options"] = options
    path.write_text(json.dumps(content))
    (builds.base / "credentials/b0").write_text(token)


def written(folder: Path) -> list[str]:
    """Files below ``folder`` that hold the secret, as it is or in base64."""
    needles = (TOKEN.encode(), base64.b64encode(f"me:{TOKEN}".encode()))
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "credentials"]
    return [str(path) for path in files if any(needle in path.read_bytes() for needle in needles)]


@pytest.mark.parametrize("option", ["--default-index", "--index"])
def test_an_address_with_a_secret(builds: Builds, index: str, option: str) -> None:
    """uv gets in, and neither the image nor its cache nor what it says has the secret."""
    recipe(builds, [option, f"http://me:${{TOKEN}}@{index}/simple"])
    status, output = builds.run("--image", HASH, "--secret", "b0=TOKEN")
    assert status == 0, output
    assert builds.python("import acme; print(acme.VERSION)") == "1.0"
    assert TOKEN not in output
    assert written(builds.images) == []


def test_a_password_of_the_machines(builds: Builds, index: str) -> None:
    """``[images.secrets]``: uv knows its variable by the name of the index."""
    recipe(builds, ["--default-index", f"http://{index}/simple"])
    words = ("--secret", "b0=UV_INDEX_ACME_PASSWORD")
    content = {"UV_INDEX_ACME_USERNAME": "me", "UV_INDEX": f"acme=http://{index}/simple"}
    status, output = builds.run("--image", HASH, *words, **content)
    assert status == 0, output
    assert written(builds.images) == []


def test_a_wrong_password_is_told_and_not_shown(builds: Builds, index: str) -> None:
    """uv's reason comes through; stars stand for the value."""
    recipe(builds, ["--default-index", f"http://me:${{TOKEN}}@{index}/simple"], token="not-the-right-one")
    status, output = builds.run("--image", HASH, "--secret", "b0=TOKEN")
    assert status == 1
    assert "not-the-right-one" not in output
    assert "401" in output or "acme" in output


def test_a_secret_that_uv_shows_half_quoted_is_not_shown(builds: Builds, index: str) -> None:
    """In a path uv leaves ``!`` and ``:`` as they are, and quotes the space."""
    recipe(builds, ["--default-index", f"http://{index}/${{TOKEN}}/simple"], token="let!me in:now")
    status, output = builds.run("--image", HASH, "--secret", "b0=TOKEN")
    assert status == 1
    assert "/***/" in output
    assert "let!me" not in output


def test_a_secret_that_did_not_arrive_stops_the_build(builds: Builds, index: str) -> None:
    """systemd starts a unit with an empty credential where flyted gives none."""
    recipe(builds, ["--default-index", f"http://me:${{TOKEN}}@{index}/simple"], token="")
    status, output = builds.once("--image", HASH, "--secret", "b0=TOKEN")
    assert (status, "the secret for TOKEN did not arrive" in output) == (78, True)
    assert not builds.image().exists()


def test_settings_that_uv_cannot_read_are_the_reason(builds: Builds, tmp_path: Path) -> None:
    """And not that the Python is missing, which it then cannot find either."""
    builds.recipe(["acme"])
    (settings := tmp_path / "uv.toml").write_text("index = 7\n")
    status, output = builds.once("--image", HASH, UV_CONFIG_FILE=str(settings))
    assert status == 78
    assert "uv cannot read its settings" in output
    assert "cannot be fetched" not in output
