"""The gateway as PyPI's flyte meets it: the stock CLI and SDK of an ordinary user against the installed package."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.machine.kit import apps
from tests.machine.kit.stock_sdk import FOLDER, GATEWAY, PYTHON, flyte, prepare, python, refused, stock
from tests.machine.kit.users import alice, answer, by, curl, forget_apps, forget_secrets, forget_tokens, give, until

UNIT = "flyted-gateway.service"
STATE = Path("/var/lib/private/flyted-gateway")
CANARY = "gateway-canary-4711"
RPC = f"{GATEWAY}/flyteidl2.secret.SecretService/ListSecrets"


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare()
    alice("sudo", "flytectl", "ca", "install")


@pytest.fixture
def app() -> str:
    """The app that these tests are about, running at version 2, whatever a test before has made of it; its URL."""
    flyte("serve", write("stock-app", version="2"), "env")
    return url("stock-app")


def write(name: str, **how: object) -> str:
    """Write an app's file into the folder of the stock CLI; return its name there."""
    text = (Path("/home/alice") / apps.write(name, **how)).read_text()  # type: ignore[arg-type]
    return give(f"stock/{name.replace('-', '_')}.py", text).removeprefix("stock/")


def url(name: str) -> str:
    return str(answer("app", "get", name)["url"])


def pid() -> int:
    shown = subprocess.run(["systemctl", "show", "-P", "MainPID", UNIT], capture_output=True, text=True, check=True)
    return int(shown.stdout)


def token() -> str:
    return alice("flytectl", "token").stdout.strip()


def rpc(*options: str, body: str = "{}") -> tuple[int, str]:
    return curl(RPC, "-H", "Content-Type: application/json", "-d", body, *options)


def test_who_i_am_and_which_projects_there_are() -> None:
    """`flyte whoami` and `flyte get project` work with the token of `flytectl token`."""
    assert json.loads(flyte("whoami").stdout)["subject"] == "alice"
    assert "default" in flyte("get", "project").stdout


def test_secrets_of_the_cli() -> None:
    """Create, refuse a second one, get, list, delete; from a value and from a file; the value comes back nowhere."""
    forget_secrets("CLI_KEY", "CLI_FILE")
    forget_secrets("CLI_SCOPED", scope=("-p", "p9", "-d", "staging"))
    give("stock/value.bin", "from a file")
    flyte("create", "secret", "CLI_KEY", "--value", CANARY)
    assert "already exists" in refused("create", "secret", "CLI_KEY", "--value", "other")
    flyte("create", "secret", "CLI_FILE", "--from-file", "value.bin")
    flyte("create", "secret", "CLI_SCOPED", "--value", "v", "--project", "p9", "--domain", "staging")
    shown = flyte("get", "secret", "CLI_KEY").stdout + flyte("get", "secret").stdout
    assert {"CLI_KEY", "CLI_FILE"} <= set(re.findall(r"CLI_\w+", shown))
    assert CANARY not in shown
    assert "p9" in flyte("get", "project").stdout
    listed = {s["key"]: (s["project"], s["domain"]) for s in answer("secret", "ls", "--all")["secrets"]}
    assert (listed["CLI_KEY"], listed["CLI_SCOPED"]) == (("", ""), ("p9", "staging"))
    for name in ("CLI_KEY", "CLI_FILE"):
        flyte("delete", "secret", name)
    flyte("delete", "secret", "CLI_SCOPED", "--project", "p9", "--domain", "staging")
    assert "CLI_" not in json.dumps(answer("secret", "ls", "--all"))
    refused("delete", "secret", "CLI_KEY")
    assert "1-128 of" in refused("create", "secret", "../x", "--value", "v")


def test_secrets_of_the_sdk() -> None:
    """``flyte.remote.Secret`` works in the project and domain of the config file."""
    forget_secrets("SDK_KEY", scope=("-p", "default", "-d", "development"))
    said = python(
        "from flyte.remote import Secret\n"
        "Secret.create('SDK_KEY', 'text')\n"
        "print(Secret.get('SDK_KEY').name, sorted(s.name for s in Secret.listall()))\n"
    )
    assert "SDK_KEY ['SDK_KEY']" in said
    (secret,) = [s for s in answer("secret", "ls", "--all")["secrets"] if s["key"] == "SDK_KEY"]
    assert (secret["project"], secret["domain"]) == ("default", "development")
    python("flyte.remote.Secret.delete('SDK_KEY')")
    assert "SDK_KEY" not in json.dumps(answer("secret", "ls", "--all"))


def test_an_app_is_served_with_its_image() -> None:
    """`flyte serve FILE ENV`: the image is built by flyted, the code uploaded, and the app answers when it returns."""
    forget_apps("stock-app")
    file = write("stock-app")
    said = flyte("serve", file, "env").stdout
    assert "App 'stock-app' is now being served" in said
    assert json.loads(curl(url("stock-app"))[1])["version"] == "1"
    before = answer("app", "get", "stock-app")
    flyte("serve", file, "env")
    flyte("deploy", file, "env")
    assert answer("app", "get", "stock-app")["revision"] == before["revision"]


def test_a_changed_file_is_a_new_revision(app: str) -> None:
    """And when `flyte serve` is back, it is the new one that answers."""
    before = answer("app", "get", "stock-app")["revision"]
    flyte("serve", write("stock-app", version="changed"), "env")
    assert json.loads(curl(app)[1])["version"] == "changed"
    assert answer("app", "get", "stock-app")["revision"] > before


def test_the_app_is_shown(app: str) -> None:
    """`flyte get app` in a list and alone: state, revision, and the address that answers."""
    listed = re.sub(r"\s+", "", flyte("--output-format", "json", "get", "app").stdout)  # it breaks lines anywhere
    assert "'name':'stock-app'" in listed
    assert f"'publicUrl':'{app}'" in listed
    assert "DEPLOYMENT_STATUS_ACTIVE" in flyte("get", "app", "stock-app").stdout
    assert "stock-app" in flyte("get", "app", "--status", "active").stdout
    assert "stock-app" not in flyte("get", "app", "--status", "stopped").stdout


def test_the_app_is_stopped_and_started(app: str) -> None:
    """`flyte update app`: waits, and what it says is so; the revision stays."""
    before = answer("app", "get", "stock-app")["revision"]
    flyte("update", "app", "stock-app", "--deactivate", "--wait")
    assert curl(app)[0] == 503
    assert answer("app", "get", "stock-app")["state"] == "stopped"
    flyte("update", "app", "stock-app", "--activate", "--wait")
    assert curl(app)[0] == 200
    assert answer("app", "get", "stock-app")["revision"] == before


@pytest.mark.usefixtures("app")
def test_asleep_is_active() -> None:
    """An app that sleeps is shown as active, scaled to zero, and not as stopped."""
    alice("flytectl", "app", "sleep", "stock-app")
    shown = flyte("get", "app", "stock-app").stdout
    assert "DEPLOYMENT_STATUS_ACTIVE" in shown
    assert "SCALED_TO_ZERO" in shown


def test_a_revision_that_fails_is_told_and_the_old_one_serves(app: str) -> None:
    """`flyte serve` fails, and its page and the API say why."""
    said = refused("serve", write("stock-app", version="3", at_start="raise RuntimeError('no way')"), "env")
    assert "has failed" in said
    assert json.loads(curl(app)[1])["version"] == "2"
    assert "no way" in flyte("get", "app", "stock-app").stdout


def test_the_apps_of_the_sdk(app: str) -> None:
    """``flyte.remote.App``: get, list, deactivate, activate, update, replace, watch; each tells the truth."""
    before = answer("app", "get", "stock-app")["revision"]
    said = python(
        "from flyte.remote import App\n"
        "app = App.get('stock-app')\n"
        "print('names', [a.name for a in App.listall() if a.name.startswith('stock')])\n"
        "print('off', app.deactivate(wait=True).is_deactivated() or App.get('stock-app').is_deactivated())\n"
        "app = App.get('stock-app').activate(wait=True)\n"
        "print('on', App.get('stock-app').is_active(), App.get('stock-app').watch('activated').endpoint)\n"
        "again = App.replace('stock-app', App.get('stock-app').pb2.spec, 'same')\n"
        "print('revision', again.revision)\n"
    )
    assert "names ['stock-app']" in said
    assert "off True" in said
    assert f"on True {app}" in said
    assert f"revision {before}\n" in said


def test_logs_are_followed_through_a_redeploy() -> None:
    """The tail that began with one revision shows the next one's lines."""
    forget_apps("stock-log")
    flyte("serve", write("stock-log", at_start="print('line of revision one')"), "env")
    script = (
        "import flyte, flyte.remote\nflyte.init_from_config()\n"
        "from flyte.remote._logs import AppLogs\n"
        "for line in AppLogs.tail(app_id=flyte.remote.App.get('stock-log').pb2.metadata.id):\n"
        "    print(line.message, flush=True)\n"
        "    if 'line of revision two' in line.message: break\n"
    )
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(stock(str(PYTHON), "-c", script, seconds=300).stdout))
    thread.start()
    flyte("serve", write("stock-log", version="2", at_start="print('line of revision two')"), "env")
    thread.join(300)
    assert found
    assert "line of revision one" in found[0]
    assert "line of revision two" in found[0]
    flyte("delete", "app", "stock-log")


REFUSED = {
    "pip": (
        "image=flyte.Image.from_debian_base().with_pip_packages('flyted-there-is-no-such-package==1')",
        "Build failed",
    ),
    "apt": ("image=flyte.Image.from_debian_base().with_apt_packages('vim')", "apt packages"),
    "base": ("image='docker.io/library/python:3.12'", "is a container image"),
    "secret": ("secrets=[flyte.Secret(key='NOT_THERE')]", "flytectl secret create NOT_THERE"),
    "gpu": ("resources=flyte.Resources(gpu='H100:8')", "gpu"),
    "replicas": ("scaling=flyte.app.Scaling(replicas=(2, 3))", "replicas=(2, 3)"),
    "cluster": ("cluster='c1'", "cluster"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_is_refused_with_its_cure(kind: str) -> None:
    """The field is named, and no app comes of it."""
    field, cure = REFUSED[kind]
    source = (
        "import flyte, flyte.app\nfrom fastapi import FastAPI\nfrom flyte.app.extras import FastAPIAppEnvironment\n"
        f"env = FastAPIAppEnvironment(name='never-{kind}', app=FastAPI(), {field})\n"
    )
    give(f"stock/never_{kind}.py", source)
    assert cure in refused("serve", f"never_{kind}.py", "env")
    assert f"never-{kind}" not in json.dumps(answer("app", "ls", "--all"))


def test_the_page_of_an_app_is_for_who_has_logged_in(app: str) -> None:
    """The address that `flyte serve` prints: a login page for strangers, the app's state for alice."""
    page = f"{GATEWAY}/v2/domain/development/project/default/apps/stock-app"
    assert curl(page)[0] == 401
    link = re.search(r"https://\S+", alice("flytectl", "login").stdout)
    assert link
    jar = ("-c", "/home/alice/jar", "-b", "/home/alice/jar")
    assert curl(link[0], "-L", *jar)[0] == 200
    status, text = curl(page, *jar)
    assert (status, app in text) == (200, True)
    assert curl(link[0])[0] == 401  # used


@pytest.mark.usefixtures("app")
def test_twenty_clients_at_once() -> None:
    """Secrets, uploads and the same app, all at the same time: each gets its answer, and one revision comes of it."""
    prefix = f"MANY_{time.time_ns()}_"
    said = python(
        """
import asyncio
from flyte.remote import App, Secret, upload_file
from pathlib import Path
async def one(number):
    await Secret.create.aio(f'MANY_{number}', f'v{number}')
    name = (await Secret.get.aio(f'MANY_{number}')).name
    path = Path(f'/tmp/many-{number}'); path.write_bytes(bytes([number]) * 100_000)
    await upload_file.aio(path)
    app = await App.get.aio('stock-app')
    app.pb2.spec.profile.short_description = 'served by twenty'
    made = await App.create.aio(app.pb2)
    await made.watch.aio('activated')
    await Secret.delete.aio(name)
    return made.revision
async def all(): return await asyncio.gather(*(one(n) for n in range(20)))
print('revisions', set(asyncio.run(all())))
""".replace("MANY_", prefix)
    )
    shown = answer("app", "get", "stock-app")
    assert f"revisions {{{shown['revision']}}}" in said
    assert shown["description"] == "served by twenty"
    assert prefix not in json.dumps(answer("secret", "ls", "--all"))


@pytest.mark.usefixtures("app")
def test_a_gateway_that_is_killed_in_the_middle_of_a_serve() -> None:
    """The deploy goes on, a client's second try finds it, and nothing happens twice."""
    before = answer("app", "get", "stock-app")["revision"]
    file = write("stock-app", version="4", at_start="time.sleep(4)")
    first: list[int] = []
    thread = threading.Thread(target=lambda: first.append(stock("flyte", "serve", file, "env").returncode))
    thread.start()
    until(lambda: max(revisions("stock-app"), default=0) > before, 120)
    made = max(revisions("stock-app"))
    os.kill(pid(), signal.SIGKILL)
    thread.join(300)
    flyte("serve", file, "env")
    shown = answer("app", "get", "stock-app")
    assert (shown["revision"], json.loads(curl(shown["url"])[1])["version"]) == (made, "4")
    until(lambda: revisions("stock-app") == {made}, 150)


def revisions(name: str) -> set[int]:
    """Return the revisions of an app that have units."""
    shown = subprocess.run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", f"flyted-app-{name}-*"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {int(line.split("-r")[1].split("-")[0]) for line in shown.stdout.splitlines()}


def test_an_app_is_deleted(app: str) -> None:
    """`flyte delete app`; a second time is no error of the SDK's, and its host is nobody's."""
    flyte("delete", "app", "stock-app")
    flyte("delete", "app", "stock-app")
    assert curl(app)[0] == 421


def test_no_token_no_answer() -> None:
    """None, nonsense, an expired one, a revoked one: unauthenticated, at once; a good one is answered."""
    assert rpc()[0] == 401
    assert rpc("-H", "Authorization: Bearer nonsense")[0] == 401
    good = token()
    assert rpc("-H", f"Authorization: Bearer {good}")[0] == 200
    alice("flytectl", "token", "revoke", good)
    assert rpc("-H", f"Authorization: Bearer {good}")[0] == 401
    forget_tokens("short")
    short = alice("flytectl", "token", "create", "--name", "short", "--expires", "1s").stdout.split()[-1]
    until(lambda: rpc("-H", f"Authorization: Bearer {short}")[0] == 401)


def test_who_leaves_the_group_loses_the_right_at_once() -> None:
    """A token is good for as long as its owner is a member."""
    alice("sudo", "adduser", "mallory", "flyted")
    try:
        held = by("mallory", "flytectl", "token").stdout.strip()
        assert rpc("-H", f"Authorization: Bearer {held}")[0] == 200
    finally:
        alice("sudo", "deluser", "mallory", "flyted")
    assert rpc("-H", f"Authorization: Bearer {held}")[0] == 401


def test_a_message_of_100_mib_is_refused_cheaply() -> None:
    """Neither memory nor disk is spent on it."""
    huge = Path("/home/alice/huge")
    with huge.open("wb") as file:
        file.truncate(100 << 20)
    rpc("-H", f"Authorization: Bearer {token()}")
    before = rss()
    status, said = curl(
        RPC, "-H", f"Authorization: Bearer {token()}", "-H", "Content-Type: application/proto", "-T", str(huge),
        "-X", "POST", "-H", "Expect:",
    )  # fmt: skip
    huge.unlink()
    assert (status, "resource_exhausted" in said) == (429, True)
    assert rss() - before < 16 << 10


def rss() -> int:
    """KiB."""
    found = re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid()}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def upload(content: bytes = b"hello", **headers: str) -> dict[str, str]:
    """An upload location as JSON, asked for with curl."""
    body = {"project": "p1", "domain": "development", "filename": "f.bin"}
    body["contentMd5"] = base64.b64encode(hashlib.md5(content).digest()).decode()
    options = [word for name, value in headers.items() for word in ("-H", f"{name.replace('_', '-')}: {value}")]
    status, said = curl(
        f"{GATEWAY}/flyteidl2.dataproxy.DataProxyService/CreateUploadLocation", "-H", "Content-Type: application/json",
        "-H", f"Authorization: Bearer {token()}", "-d", json.dumps(body), *options,
    )  # fmt: skip
    assert status == 200, said
    found: dict[str, str] = json.loads(said)
    return found


def test_an_upload_in_the_clear_is_for_its_address_only() -> None:
    """Port 80 takes the PUT, and redirects everything else; what was sent cannot be had."""
    content = os.urandom(16).hex()
    where = upload(content.encode())["signedUrl"]
    assert where.startswith("http://flyted.localhost")
    put = ("-X", "PUT", "--data-binary")
    assert curl(where, *put, "wrong")[0] == 400
    assert curl(where, *put, content)[0] == 200
    assert curl(where, *put, "other")[0] == 200  # a replay changes nothing
    (kept,) = [path for path in (STATE / "blobs").iterdir() if path.read_bytes() == content.encode()]
    assert kept.stat().st_mode & 0o077 == 0
    assert curl(where)[0] == 308
    for path in ("/", "/login", "/flyteidl2.auth.IdentityService/UserInfo"):
        assert curl(where.partition("/upload/")[0] + path, "-X", "POST")[0] == 308
    assert curl(where[:-3] + "AAA", *put, content)[0] == 403


def test_what_a_client_says_about_itself_is_not_believed() -> None:
    """The ingress deletes headers that only it may write."""
    where = upload(X_Flyted_Ports="1 2", X_Flyted_Local="0")["signedUrl"]
    assert ":2/" not in where
    assert where.startswith("http://")


def test_the_gateway_is_confined() -> None:
    """systemd's own judgement of the unit, and that its user is nobody's."""
    rpc()
    shown = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", UNIT], capture_output=True, text=True, check=True
    )
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", shown.stdout)
    assert exposure
    assert float(exposure[1]) <= 0.9
    status = Path(f"/proc/{pid()}/status").read_text()
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert not re.search(r"^Uid:\s+0\s", status, re.MULTILINE)
    assert len(Path(f"/proc/{pid()}/net/dev").read_text().splitlines()) == 3  # two lines of heading, and lo


def test_the_gateways_own_user_may_nothing() -> None:
    """Without a token flyted refuses it; and nobody else can even open the two sockets."""
    script = (
        "import sys; sys.path.insert(0, '/usr/lib/flyted')\n"
        "from flyted.contract.client import API_SOCKET, call\n"
        "from flyted.contract.errors import FlytedError\n"
        "try: print(call('app.list', {'project': '', 'domain': ''}, path=API_SOCKET))\n"
        "except FlytedError as error: print(error.code)\n"
    )
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=flyted-gateway", "--clear-groups", "python3", "-I", "-c", script],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "unauthenticated"
    for path in ("/run/flyted/gateway.sock", "/run/flyted/api.sock"):
        connect = f"import socket; socket.socket(socket.AF_UNIX).connect('{path}')"
        assert "PermissionError" in by("mallory", "/usr/bin/python3", "-c", connect).stderr


def test_no_secret_rests_in_the_gateway() -> None:
    """Not on its disk, not in its journal, not in the memory that it keeps."""
    forget_secrets("REST_KEY")
    flyte("create", "secret", "REST_KEY", "--value", CANARY)
    kept = [path for path in STATE.rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if CANARY.encode() in path.read_bytes()] == []
    journal = subprocess.run(
        ["journalctl", "-u", UNIT, "--no-pager"], capture_output=True, text=True, check=True
    ).stdout
    assert CANARY not in journal
    assert token() not in journal
    assert "Traceback" not in journal
    flyte("delete", "secret", "REST_KEY")


def test_it_ends_when_nobody_asks_and_comes_back() -> None:
    """Idle costs nothing; the next call starts it, and is answered."""
    rpc()
    until(lambda: pid() == 0, 240)
    assert rpc("-H", f"Authorization: Bearer {token()}")[0] == 200
    assert pid() != 0


def test_the_folder_of_the_cli_is_as_we_found_it() -> None:
    """The SDK's own cache lies beside its config file, and nothing of ours does."""
    assert (FOLDER / "config.yaml").exists()
    assert not list(FOLDER.glob("flyted*"))
