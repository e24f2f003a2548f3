"""A registry of this machine that is asked in place of ghcr.io: for Flyte's own base, and by doctor."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.server
import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.host.machine import system_python
from tests.machine.kit import hub as hubs
from tests.machine.kit import roots
from tests.machine.kit.hub import HOST, PLATFORM, Hub, tar_of
from tests.machine.kit.settings import settings
from tests.machine.kit.units import sh
from tests.machine.kit.users import Done, alice, answer, by, curl, forget_apps, forget_secrets, give
from tests.registry import proxy as proxies
from tests.registry.server import LAYER

PYTHON = tuple(map(int, system_python().split(".")))
BASE = "ghcr.io/flyteorg/flyte"
SDK = "/usr/lib/flyted/sdk"
APP = """
import subprocess, sys
from pathlib import Path
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
def look():
    jq = subprocess.run(["jq", "-n", "6*7"], capture_output=True, text=True).stdout.strip()
    marks = [path for path in ("/opt/venv/from-the-registry", "/srv/mark") if Path(path).exists()]
    return {{"jq": jq, "python": sys.prefix, "version": sys.version_info[:2], "marks": marks}}

env = FastAPIAppEnvironment(
    name="mirrored-{name}", app=app, requires_auth=False,
    image={image}.with_apt_packages("jq").with_pip_packages("fastapi", "uvicorn", "flyte"),
)
"""
CONFIG = {
    "User": "flyte", "WorkingDir": "/home/flyte",
    "Env": ["PATH=/opt/venv/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "VIRTUAL_ENV=/opt/venv",
            "PYTHONPATH=/root"],
}  # fmt: skip
"""How the SDK's own base is run, as far as its layers see it (flyte/_image.py)."""


def flytes_base() -> list[tuple[bytes, str]]:
    """What Flyte's base is like: a Debian, an environment in /opt/venv, a user flyte."""
    place = Path("/srv/flyted-test-base.tar")
    place.unlink(missing_ok=True)
    roots.bootstrap(place, ("python3", "ca-certificates"))
    debian = place.read_bytes()
    place.unlink()
    with tarfile.open(fileobj=io.BytesIO(debian)) as tar:
        found = tar.extractfile("./etc/passwd")
        assert found is not None
        passwd = found.read()
    version = ".".join(map(str, PYTHON))
    more = tar_of(
        ("opt", None), ("opt/venv", None), ("opt/venv/bin", None), ("opt/venv/bin/python", "/usr/bin/python3"),
        ("opt/venv/pyvenv.cfg", f"home = /usr/bin\nversion_info = {version}\n".encode()),
        ("opt/venv/from-the-registry", b""), ("home/flyte|1000", None),
        ("etc/passwd", passwd + b"flyte:x:1000:1000::/home/flyte:/bin/bash\n"),
    )  # fmt: skip
    return [(debian, LAYER), (more, LAYER)]


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """A registry of this machine, and alice's login for it."""
    alice("flytectl", "secret", "create", "hub-login", "-", "--replace", typed=hubs.login())
    with hubs.serving() as made:
        yield dataclasses.replace(made, repository="flyteorg/flyte")
    forget_apps("mirrored-")
    forget_secrets("hub-login")


@pytest.fixture(scope="module")
def layers() -> list[tuple[bytes, str]]:
    return flytes_base()


def served(name: str, image: str) -> Done:
    return by("alice", "flytectl", "serve", give(f"mirrored/{name}.py", APP.format(name=name, image=image)))


def image(python: tuple[int, ...]) -> str:
    """Flyte's own base; the version of Python and the SDK's own are in its name."""
    return f"flyte.Image.from_debian_base(python_version={python!r})"


def named(image: str) -> str:
    """The name by which the SDK calls the base of an image."""
    path = f"{SDK}/cp{PYTHON[0]}{PYTHON[1]}:{SDK}"
    return alice(
        "env", f"PYTHONPATH={path}", "python3", "-c", f"import flyte; print({image}.base_image)"
    ).stdout.strip()


def got(name: str) -> dict[str, object]:
    status, body = curl(f"https://mirrored-{name}.apps.localhost/")
    assert status == 200, body + sh("journalctl", "-n30", "-o", "cat", "-u", f"flyted-app-mirrored-{name}-r*.service")
    return dict(json.loads(body))


def digests(name: str) -> dict[str, str]:
    return dict(answer("app", "get", f"mirrored-{name}")["image"]["digests"])


def push(hub: Hub, tag: str, layers: list[tuple[bytes, str]]) -> str:
    return str(hub.image(tag, layers, PLATFORM.partition("/")[2], run=CONFIG)["digest"])


def test_flytes_own_base_of_a_mirror(hub: Hub, layers: list[tuple[bytes, str]]) -> None:
    """By the name that the SDK gives it, and by its digest: the revision keeps which image it was."""
    with hubs.trusted(hub, "ghcr.io"):
        digest = push(hub, "mine", layers)
        done = served("digest", f'flyte.Image.from_base("{BASE}@{digest}").clone(name="mine", extendable=True)')
        assert done.returncode == 0, done.stdout + done.stderr
        assert got("digest") == {
            "jq": "42", "python": "/opt/venv", "version": list(PYTHON), "marks": ["/opt/venv/from-the-registry"],
        }  # fmt: skip
        assert digests("digest") == {f"{BASE}@{digest}": digest}
        tag = re.fullmatch(rf"{BASE}:(py{PYTHON[0]}\.{PYTHON[1]}-v[0-9.]+\w*)", named(image(PYTHON[:2])))
        assert tag is not None
        push(hub, tag[1], layers)
        done = served("tag", image(PYTHON[:2]))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "in its place" not in done.stdout + done.stderr
        assert got("tag")["marks"] == ["/opt/venv/from-the-registry"]
        assert digests("tag") == {f"{BASE}:{tag[1]}": digest}


@pytest.mark.long  # daemon/test_life_silent.py has the decision; here a Debian is installed twice
@pytest.mark.parametrize(
    ("name", "secret", "said"),
    [
        ("lacking", "hub-login", f"{HOST} does not have flyteorg/flyte"),
        ("closed", "", f"{HOST} wants a login for flyteorg/flyte"),
    ],
)
def test_a_debian_where_the_mirror_has_no_such_base(hub: Hub, name: str, secret: str, said: str) -> None:
    """By 404, or 401 for those without a login; Debian bookworm has the Python that is asked for."""
    if name == "lacking" and PYTHON[:2] == (3, 11):
        pytest.skip("an earlier test has pulled the base for this Python, which is used then")
    with hubs.trusted(hub, "ghcr.io", secret):
        done = served(name, f"{image((3, 11))}.with_commands(['touch /srv/mark'])")
        text = done.stdout + done.stderr
        assert done.returncode == 0, text
        assert said in text
        assert re.search(rf"{BASE}:py3\.11-v\S+ was not pulled: a Debian is installed in its place", text)
        assert got(name) == {"jq": "42", "python": "/opt/venv", "version": [3, 11], "marks": ["/srv/mark"]}
        assert digests(name) == {}


def test_a_pull_through_a_proxy(hub: Hub) -> None:
    """Which is named in images.environment, with its login; without the login, the pull says what it lacks."""
    tar = tar_of(("bin", None), ("bin/busybox", Path("/usr/bin/busybox").read_bytes()))
    digest = push(hub, "proxied", [(tar, LAYER)])
    name = f"{HOST}/flyteorg/flyte:proxied"
    with hubs.trusted(hub, HOST), proxies.serving("proxy", "s3cret-way") as proxy:
        for login, well in (("proxy:wrong@", False), ("proxy:s3cret-way@", True)):
            address = f"http://{login}127.0.0.1:{proxy.server_address[1]}"
            with settings(f'[images.environment]\nHTTPS_PROXY = "{address}"'):
                done = by("alice", "flytectl", "image", "pull", name)
            assert (done.returncode == 0) is well, done.stdout + done.stderr
            assert ("requires a login, or another one" in done.stderr) is not well, done.stderr
            assert "wrong" not in done.stdout + done.stderr
    assert {head.partition(" HTTP")[0] for head in proxy.heads} == {f"CONNECT {HOST}"}
    assert len(proxy.heads) > 3
    assert digest[7:19] in sh("ls", "/var/lib/flyted/blobs/pulled")


@contextlib.contextmanager
def another_server() -> Iterator[int]:
    """A server of this machine that is no registry; its port."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(http.server.SimpleHTTPRequestHandler, directory="/srv")
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def mirrors() -> dict[str, tuple[bool | None, str, str]]:
    """What doctor says of each: whether it is fine, the finding, and what to type."""
    checks = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
    found = (each for each in checks if each["name"].startswith("mirror"))
    return {each["name"]: (each["ok"], each["detail"], each["hint"]) for each in found}


def test_doctor_asks_each_mirror(hub: Hub) -> None:
    """By the unit of pulls: what it cannot reach, no registry, one that nobody trusts; none without a setting."""
    assert mirrors() == {}
    with another_server() as port:
        table = {"ghcr.io": f"https://{HOST}", "gcr.io": f"http://127.0.0.1:{port}", "quay.io": "https://127.0.0.1:9"}
        rows = "\n".join(f'"{name}" = "{address}"' for name, address in table.items())
        with settings(f"[images.mirrors]\n{rows}"):
            found = mirrors()
    ok, detail, hint = found["mirror ghcr.io"]
    assert (ok, f"the certificate of {HOST} is not trusted" in detail) == (False, True)
    assert "/usr/local/share/ca-certificates/127.0.0.1.crt; sudo update-ca-certificates" in hint
    ok, detail, hint = found["mirror gcr.io"]
    assert (ok, f"127.0.0.1:{port} is not a registry" in detail) == (None, True)
    assert "use the address of a registry" in hint
    ok, detail, hint = found["mirror quay.io"]
    assert (ok, "127.0.0.1:9 cannot be reached" in detail) == (False, True)
    assert "correct mirrors" in hint
    assert sh("systemctl", "list-units", "--all", "--no-legend", "flyted-pull-*") == ""


@pytest.mark.parametrize(
    ("secret", "ok", "said"), [("hub-login", True, "pulls have those of the secret hub-login"), ("", None, "a login")]
)
def test_doctor_knows_a_mirror_that_wants_a_login(hub: Hub, secret: str, ok: bool | None, said: str) -> None:
    """It tries none: which one a pull has depends on its project."""
    with hubs.trusted(hub, "ghcr.io", secret):
        found = mirrors()["mirror ghcr.io"]
    assert found[0] is ok
    assert said in found[1]
    assert ok or f"docker login {HOST}; flytectl secret create LOGIN" in found[2]
