"""The gateway as PyPI's flyte meets it: the stock CLI and SDK of an ordinary user against the installed package."""

from __future__ import annotations

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
from tests.machine.kit.gateway import CANARY, pid
from tests.machine.kit.pypi_flyte import FOLDER, GATEWAY, PYTHON, flyte, python, refused, stock
from tests.machine.kit.users import alice, answer, curl, forget_apps, forget_secrets, give, until

pytestmark = pytest.mark.usefixtures("pypi_flyte")


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
        "flyted-there-is-no-such-package",
    ),
    "apt": (
        "image=flyte.Image.from_debian_base().with_apt_packages('git; rm -rf /')",
        "is not a valid package of apt",
    ),
    "base": ("image='docker.io/library/Python:3.12'", "is not a container image"),
    "secret": ("secrets=[flyte.Secret(key='NOT_THERE')]", "flytectl secret create NOT_THERE"),
    "gpu": ("resources=flyte.Resources(gpu='H100:8')", "gpu"),
    "replicas": ("scaling=flyte.app.Scaling(replicas=(65, 66))", "replicas=(65, 66)"),
    "service": ("service_account='c1'", "service_account exists only in Kubernetes"),
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


def test_the_folder_of_the_cli_is_as_we_found_it() -> None:
    """The SDK's own cache lies beside its config file, and nothing of ours does."""
    assert (FOLDER / "config.yaml").exists()
    assert not list(FOLDER.glob("flyted*"))
