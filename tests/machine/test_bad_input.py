"""Everything a user can get wrong: one clear message, a hint, a status, and nothing changed."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine.kit.settings import settings
from tests.machine.kit.users import (
    alice,
    answer,
    by,
    curl,
    environment,
    everything,
    forget_tokens,
    give,
    refused,
    serve,
    until,
)

IMAGE = 'flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("fastapi", "uvicorn")'
HEAD = "import flyte\nfrom fastapi import FastAPI\nfrom flyte.app.extras import FastAPIAppEnvironment\n"
APP = 'app = FastAPI()\n@app.get("/")\ndef root() -> str:\n    return "{answer}"\n'


def file(options: str = "", *, name: str = "bad", body: str = "", answer: str = "one", image: str = IMAGE) -> str:
    """An app file of alice's with these further options of its environment."""
    text = HEAD + APP.replace("{answer}", answer) + body
    text += f'env = FastAPIAppEnvironment(name="{name}", app=app, image={image}, requires_auth=False, {options})\n'
    return give("bad/app.py", text)


@pytest.fixture(scope="module", autouse=True)
def _member() -> Iterator[None]:
    yield
    for app in answer("app", "ls", "--all")["apps"]:
        alice("flytectl", "app", "delete", "--yes", app["name"], "-p", app["project"], "-d", app["domain"])


@pytest.fixture
def unchanged() -> Iterator[None]:
    """Apps, secrets, units and files are afterwards what they were before."""
    before = everything()
    yield
    assert everything() == before


@contextmanager
def secret(key: str, value: str, *scope: str) -> Iterator[None]:
    """A secret for one test."""
    alice("flytectl", "secret", "create", key, "-", *scope, typed=value)
    try:
        yield
    finally:
        alice("flytectl", "secret", "delete", "--yes", key, *scope)


# ── the file ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("text", "words", "status", "said"),
    [
        ("def broken(:\n", [], 3, r"app\.py is not valid Python"),
        ("import no_such_package_at_all\n", [], 3, "no_such_package_at_all"),
        ("def inner():\n    raise ValueError('mine')\n\ninner()\n", [], 3, r"in inner\n.*ValueError: mine"),
        ("x = 1\n", [], 3, "no app environment"),
        ("import sys\nsys.exit(0)\n", [], 3, "exits when it is imported"),
        ("import os\nos._exit(0)\n", [], 3, "without an answer"),
        (None, ["nothing"], 3, r"no environment 'nothing'(.|\n)*hint: it has: env \(bad\)"),
    ],
    ids=["syntax", "missing package", "raises", "no environment", "exits", "dies", "unknown environment"],
)
def test_a_file_that_cannot_be_imported(text: str | None, words: list[str], status: int, said: str) -> None:
    """Syntax, imports, exceptions, exits, no or another environment: the user's own frames at most."""
    name = file() if text is None else give("bad/app.py", text)
    shown = refused("flytectl", "serve", name, *words, status=status)
    assert re.search(said, shown, re.DOTALL), shown
    assert "importlib" not in shown


@pytest.mark.usefixtures("unchanged")
def test_a_file_that_is_not_there() -> None:
    """A missing file, a folder, and a file that alice may not read are told apart."""
    assert "there is no file nowhere.py" in refused("flytectl", "serve", "nowhere.py", status=4)
    assert "is a folder" in refused("flytectl", "serve", "/tmp", status=2)
    Path("/home/alice/roots.py").write_text("x = 1\n")
    Path("/home/alice/roots.py").chmod(0o600)
    assert "Permission denied" in refused("flytectl", "serve", "roots.py", status=3)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("env_vars={'LD_PRELOAD': '/tmp/x.so'}", "LD_PRELOAD"),
        ("env_vars={'PATH': '/tmp'}", "'PATH'"),
        ("env_vars={'A': 'nul\\0'}", "control character|NUL|null"),
        ("secrets=flyte.Secret(key='K', as_env_var='LD_PRELOAD')", "LD_PRELOAD"),
        ("scaling=flyte.app.Scaling(replicas=(2, 3))", r"replicas=\(2, 3\)"),
        ("resources=flyte.Resources(gpu=1)", "gpu"),
        ("resources=flyte.Resources(memory='1Ki')", "memory"),
    ],
)
def test_fields_that_are_wrong_or_not_built(options: str, said: str) -> None:
    """Each is refused by its own name; none is ignored."""
    image = options.removeprefix("image=") if options.startswith("image=") else IMAGE
    options = "" if image != IMAGE else options
    assert re.search(said, refused("flytectl", "serve", file(options, image=image), status=2))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "dash-", "a" * 64, "dot.ted", "sp ace", "ü", "a/b"])
def test_names_that_are_no_names(name: str) -> None:
    """In the file, on the command line, as project and domain, and as a secret's key."""
    assert by("alice", "flytectl", "serve", file(name=name)).returncode in (2, 3)
    refused("flytectl", "app", "get", "--", name, status=2)
    refused("flytectl", "app", "get", "x", f"--project={name}", status=2)
    refused("flytectl", "secret", "get", "K", f"--domain={name}", status=2)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("key", ["../up", ".hidden", "/b", "sp ace", "x" * 129, "a/b/c", "a..b", "new\nline", "ü"])
def test_keys_that_are_no_keys(key: str) -> None:
    """A key never becomes another path, option or line."""
    assert "secret key" in refused("flytectl", "secret", "create", "--", key, "v", status=2)


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("unchanged")
def test_a_secret_that_is_missing() -> None:
    """The error names the app, the key and the command that stores it; nothing is built for it."""
    said = refused("flytectl", "serve", file("secrets='NOT_THERE'"), status=4)
    assert "NOT_THERE" in said
    assert "hint: flytectl secret create NOT_THERE" in said


@pytest.mark.usefixtures("unchanged")
def test_a_secret_of_another_scope() -> None:
    """A secret of another project's is not there for this app."""
    with secret("ELSEWHERE", "v", "-p", "other", "-d", "production"):
        assert "ELSEWHERE" in refused("flytectl", "serve", file("secrets='ELSEWHERE'"), status=4)


@pytest.mark.usefixtures("unchanged")
def test_values_of_wrong_size() -> None:
    """Empty, and above 512 KiB: refused before anything is stored."""
    assert "empty" in refused("flytectl", "secret", "create", "K", "-", typed="", status=2)
    assert "512 KiB" in refused("flytectl", "secret", "create", "K", "-", typed="x" * (512 * 1024 + 1), status=2)


@pytest.mark.usefixtures("unchanged")
def test_values_that_are_too_much_together() -> None:
    """More than 900 KiB for one app: its unit could not hold them."""
    half = "x" * (500 * 1024)
    with secret("BIG_A", half), secret("BIG_B", half):
        name = file("secrets=[flyte.Secret('BIG_A', as_env_var='A'), flyte.Secret('BIG_B', as_env_var='B')]")
        assert "the limit is 900 KiB" in refused("flytectl", "serve", name, status=2)


@pytest.mark.usefixtures("unchanged")
def test_a_replacement_that_nobody_asked_for() -> None:
    """An existing key keeps its value and dates without --replace."""
    with secret("KEPT", "v"):
        before = answer("secret", "get", "KEPT")
        assert "--replace" in refused("flytectl", "secret", "create", "KEPT", "-", typed="other", status=5)
        assert answer("secret", "get", "KEPT") == before


# ── images ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("unchanged")
def test_a_package_that_does_not_exist() -> None:
    """uv's own words are shown while it builds, and the error says which layer failed."""
    image = 'flyte.Image.from_debian_base().with_pip_packages("flyted-there-is-no-such-package==1.2.3")'
    done = by("alice", "flytectl", "serve", file(image=image))
    assert done.returncode == 8
    assert done.stdout == ""
    assert "flyted-there-is-no-such-package" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("flyte.Image.from_debian_base().with_apt_packages('jq')", "apt"),
        ("flyte.Image.from_debian_base().with_commands(['touch /x'])", "command"),
        ("flyte.Image.from_base('nginx:latest')", "nginx"),
    ],
)
def test_layers_that_are_not_built(image: str, said: str) -> None:
    """apt, shell commands and foreign base images are refused by name."""
    assert said in refused("flytectl", "serve", file(image=image), status=2)


@pytest.mark.usefixtures("unchanged")
def test_an_environment_that_is_none() -> None:
    """``--python-env`` with a folder that is no environment."""
    assert "bin/python" in refused("flytectl", "serve", file(), "--python-env", "/tmp", status=4)


# ── the machine ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def served() -> str:
    """An app that serves while something goes wrong around it; its URL."""
    return serve(file(answer="old"))


@pytest.mark.usefixtures("unchanged")
def test_who_is_not_in_the_group_changes_nothing() -> None:
    """Every verb that mallory tries: refused, with the same advice."""
    for words in (
        ["app", "ls"],
        ["app", "delete", "--yes", "bad"],
        ["secret", "create", "X", "y"],
        ["secret", "ls"],
        ["ca", "show"],
    ):
        assert "only members of group 'flyted'" in refused("flytectl", *words, status=6, user="mallory")


def systemctl(*words: str) -> None:
    subprocess.run(["systemctl", *words], check=True)


def test_a_daemon_that_is_down_is_explained_by_systemd(served: str) -> None:
    """Stopped on purpose: what systemd says of it; apps go on serving meanwhile."""
    systemctl("stop", "flyted.socket", "flyted.service")
    try:
        said = refused("flytectl", "app", "ls", status=7)
        assert "systemd says flyted.service is inactive (dead)" in said
        assert "hint: sudo systemctl start flyted" in said
        assert curl(served)[0] == 200
        assert by("alice", "flytectl", "doctor").returncode == 1
    finally:
        systemctl("start", "flyted.socket", "flyted.service")


def test_a_daemon_that_cannot_start_is_explained(served: str) -> None:
    """A broken setting: the command does not hang but names it, as the journal does."""
    with settings("[ingress]\nhttps_prot = 1"):
        said = refused("flytectl", "app", "ls", status=7)
        assert "it cannot start: " in said
        assert "there is no setting 'ingress.https_prot'" in said
        journal = subprocess.run(
            ["journalctl", "-u", "flyted", "-n", "20"], capture_output=True, text=True, check=True
        )
        assert "there is no setting 'ingress.https_prot'" in journal.stdout
        assert curl(served)[0] == 200


def test_a_daemon_of_another_version_is_named() -> None:
    """After half an upgrade: both versions, and what to restart; serve does not begin."""
    version = Path("/usr/lib/flyted/flyted/contract/version.py")
    before = version.read_text()
    version.write_text(re.sub(r'VERSION = ".*"', 'VERSION = "99.0"', before))
    try:
        for words in (["serve", file()], ["version"]):
            said = by("alice", "flytectl", *words)
            assert said.returncode == 7
            assert "this is flytectl 99.0, the daemon is flyted" in said.stderr
            assert "hint: sudo systemctl restart flyted" in said.stderr
    finally:
        version.write_text(before)


def stop_all() -> None:
    """One after the other, the daemon first: it would start the ingress that stops, and that the daemon again.

    With its sockets: whoever asks it something meanwhile, such as the gateway, would start it too.
    """
    systemctl("stop", "flyted.socket", "flyted-credentials.socket", "flyted-api.socket", "flyted")
    systemctl("stop", "flyted-ingress.socket", "flyted-ingress")  # else the next connection starts it again


def test_ports_that_are_taken_are_replaced_and_said() -> None:
    """Somebody else has 443: another port is used, the URL has it, and doctor says so."""
    stop_all()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 443))
        other.listen()
        systemctl("start", "flyted", "flyted-ingress")
        url = serve(file(answer="old"))
        assert re.search(r":\d+$", url)
        assert curl(url)[0] == 200
        found = {check["name"]: check for check in answer("doctor")["checks"]}
        assert found["ingress"]["ok"] is None
        assert url.rpartition(":")[2] in found["ingress"]["detail"]
    stop_all()
    systemctl("start", "flyted", "flyted-ingress")
    until(lambda: curl(str(answer("app", "get", "bad")["url"]))[0] == 200)
    assert not re.search(r":\d+$", str(answer("app", "get", "bad")["url"]))


@contextmanager
def small_disk() -> Iterator[Path]:
    """The daemon's state on a disk of a few MiB, with what the secrets need."""
    state = Path("/var/lib/flyted")
    systemctl("stop", "flyted.socket", "flyted.service")
    copy = Path("/run/small-disk")
    shutil.copytree(state, copy, ignore=shutil.ignore_patterns("images", "bundles"), symlinks=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=711", "tmpfs", state], check=True)
    try:
        subprocess.run(["cp", "-a", f"{copy}/.", state], check=True)
        (state / "bundles").mkdir(mode=0o711)
        (state / "images").mkdir(mode=0o755)
        systemctl("start", "flyted.socket", "flyted.service")
        yield state
    finally:
        systemctl("stop", "flyted.socket", "flyted.service")
        subprocess.run(["umount", state], check=True)
        shutil.rmtree(copy)
        systemctl("start", "flyted.socket", "flyted.service")


def fill(disk: Path) -> None:
    """Until not a byte more fits."""
    with (disk / "filler").open("ab", buffering=0) as filler, pytest.raises(OSError, match="No space"):
        while True:
            filler.write(b"x" * 4096)


def test_a_full_disk_can_be_freed() -> None:
    """An app, a secret and a token are deleted without a byte left, even if flyted is restarted; nothing new fits."""
    forget_tokens("leaving")
    url = serve(file(name="leaving"))
    alice("flytectl", "app", "stop", "leaving")
    alice("flytectl", "token", "create", "--name", "leaving")
    with secret("LEAVING", "v"):
        with small_disk() as state:
            fill(state)
            systemctl("restart", "flyted")
            fill(state)
            refused("flytectl", "secret", "create", "MORE", "-", typed="y" * 65536, status=9)
            alice("flytectl", "secret", "delete", "--yes", "LEAVING")
            alice("flytectl", "token", "revoke", "leaving")
            fill(state)
            alice("flytectl", "app", "delete", "--yes", "leaving")
            assert [a["name"] for a in answer("app", "ls")["apps"] if a["name"] == "leaving"] == []
            assert [s["key"] for s in answer("secret", "ls")["secrets"] if s["key"] == "LEAVING"] == []
            assert [t["name"] for t in answer("token", "ls")["tokens"] if t["name"] == "leaving"] == []
            assert curl(url)[0] == 421
        alice("flytectl", "app", "delete", "--yes", "leaving")  # of the disk that was there before
        alice("flytectl", "token", "revoke", "leaving")


def test_a_full_disk_keeps_the_old_value() -> None:
    """No room: the error says so, and the secret is the one from before."""
    for app in answer("app", "ls", "--all")["apps"]:
        alice("flytectl", "app", "delete", "--yes", app["name"])
    with secret("KEPT", "before"), small_disk() as state:
        before = answer("secret", "ls", "--all")
        fill(state)
        said = refused("flytectl", "secret", "create", "KEPT", "-", "--replace", typed="y" * 65536, status=9)
        assert "disk full: secret 'KEPT'" in said
        (state / "filler").unlink()
        assert answer("secret", "ls", "--all") == before
        found = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
        assert {c["name"]: c["ok"] for c in found}.items() >= {"secret store": True, "disk": False}.items()


def test_root_is_not_a_user() -> None:
    """Plain root imports nobody's file; under sudo it is alice who imports hers."""
    done = subprocess.run(["flytectl", "serve", "/home/alice/bad/app.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert "--as USER" in done.stderr
    give("bad/app.py", "import os, pathlib\npathlib.Path('/tmp/who').write_text(str(os.getuid()))\n")
    by("alice", "sudo", "flytectl", "serve", "bad/app.py")
    assert Path("/tmp/who").read_text() == str(Path("/home/alice").stat().st_uid)
    assert environment("alice")["HOME"] == "/home/alice"
