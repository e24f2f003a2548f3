"""Every command of Flyte's own, and every method of ``flyte.remote``, does what flyted-compat(7) says."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.compat.commands import COMMANDS, LOCAL, WORKS
from tests.compat.remote import METHODS
from tests.compat.remote import WORKS as METHOD_WORKS
from tests.machine.kit.companion_sdk import HOME, SHARE, Desk
from tests.machine.kit.environments import environment_for, install
from tests.machine.kit.pypi_flyte import SDK
from tests.machine.kit.users import alice, answer, by, curl, forget_apps, forget_secrets, give, join_group
from tests.machine.kit.warm_flyte import Warm, warm

APP = """
import flyte
import flyte.app

work = flyte.TaskEnvironment(name="work", image="auto")

@work.task
async def add(a: int) -> int:
    return a

env = flyte.app.AppEnvironment(
    name="command-app", requires_auth=False, image="auto", args="python -m http.server 8080"
)
"""


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """The stock SDK with the companion, and a folder with files for the commands."""
    place = environment_for("commands")
    install(place, f"flyte=={SDK}", "fastapi", "uvicorn", *map(str, SHARE.glob("flyted-*.whl")))
    join_group()
    alice("sudo", "flytectl", "ca", "install")
    for name, text in {
        "command_app.py": APP, "command_script.py": "print(1)\n", "value.txt": "v", "settings.yaml": "{}\n",
        "config.yaml": alice("flytectl", "config", "init", "-").stdout,
    }.items():  # fmt: skip
        give(f"commands/{name}", text)
    yield Desk(HOME / "commands", place)
    forget_apps("command-")
    forget_apps("hello-")
    forget_secrets("COMMAND_KEY")
    forget_secrets("REMOTE_KEY", scope=("-p", "default", "-d", "development"))


@pytest.fixture(scope="module")
def flyte(desk: Desk) -> Iterator[Warm]:
    """The command of the desk."""
    with warm(desk.folder, desk.environment) as command:
        yield command


def served(flyte: Warm) -> None:
    """Have the app run; what a test before has left of it will do."""
    if not [app for app in answer("app", "ls")["apps"] if (app["name"], app["state"]) == ("command-app", "running")]:
        flyte.works("serve", "command_app.py", "env")


def prepare(flyte: Warm, name: str) -> None:
    """Have what a command needs: an app that is served, and a secret that is there, or not."""
    if name in ("delete app", "get app", "update app"):
        served(flyte)
    if name == "create secret":
        forget_secrets("COMMAND_KEY")
    if name == "delete secret":
        by("alice", "flytectl", "secret", "create", "COMMAND_KEY", "-", typed="v")


@pytest.mark.parametrize("name", [name for name, each in COMMANDS.items() if each.tried is not None])
def test_a_command(flyte: Warm, name: str) -> None:
    """It works, or says in one sentence why it does not; never a traceback."""
    command = COMMANDS[name]
    prepare(flyte, name)
    status, said = flyte.run(*name.removesuffix(" FILE").split(), *(command.tried or ()))
    assert "Traceback" not in said
    works = command.verdict in (WORKS, LOCAL) and "r1" not in (command.tried or ())
    if works:
        assert status == 0, said
    else:
        assert status in ({0} if command.status == 0 else {1, 2}), said
        assert command.said in said


SCRIPT = """
import asyncio, json, os, sys
import flyte
from flyte import remote
flyte.init_from_config()
rows = json.loads(sys.stdin.read())
found = {}
for name, source in rows.items():
    try:
        exec(source, {"asyncio": asyncio, "remote": remote})
        found[name] = ""
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(found))
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def tried(desk: Desk, flyte: Warm) -> dict[str, str]:
    """What became of each method's line, "" if it worked: all in one Python, in the order of the table."""
    served(flyte)
    give("commands/methods.txt", SCRIPT)
    give("commands/rows.json", json.dumps({name: each.tried for name, each in METHODS.items() if each.tried}))
    found: dict[str, str] = json.loads(desk.works("python methods.txt <rows.json").splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", sorted({name.partition(".")[0] for name, each in METHODS.items() if each.tried}))
def test_the_methods_of_a_class(tried: dict[str, str], kind: str) -> None:
    """What the table creates it deletes in the end."""
    for name, each in METHODS.items():
        if name.partition(".")[0] != kind or not each.tried:
            continue
        if each.verdict == METHOD_WORKS:
            assert tried[name] == "", f"{name}: {tried[name]}"
        else:
            assert tried[name] != "", f"{name} works"
            assert each.said in tried[name], f"{name}: {tried[name]}"


LISTED = "import flyte\nimport flyte.app\n" + "\n".join(
    f'env{number} = flyte.app.AppEnvironment(name="command-list-{number}", requires_auth=False, image="auto", '
    f'args="python -m http.server 8080")'
    for number in range(3)
)


def test_the_list_of_apps_has_its_columns_and_options(flyte: Warm) -> None:
    """``--limit``, ``--status``, ``--only-mine``, and one by its name; the pages are in tests/gateway."""
    give("commands/listed.py", LISTED)
    flyte.works("deploy", "--all", "listed.py")
    names = [f"command-list-{number}" for number in range(3)]
    said = flyte.works("-of", "table", "get", "app")
    assert all(column in said for column in ("Name", "Revision", "Endpoint", "Deployment_sta", "Desired_state")), said
    assert all(name in said for name in names)
    rows = json.loads(flyte.works("-of", "json-raw", "get", "app"))
    assert {row["metadata"]["id"]["name"] for row in rows} >= {*names}
    assert len(json.loads(flyte.works("-of", "json-raw", "get", "app", "--limit", "2"))) == 2
    flyte.works("update", "app", names[0], "--deactivate", "--wait")
    stopped = flyte.works("get", "app", "--status", "stopped")
    assert (names[0] in stopped, names[1] in stopped) == (True, False), stopped
    active = flyte.works("get", "app", "--status", "active")
    assert (names[0] in active, names[1] in active) == (False, True), active
    assert names[1] in flyte.works("get", "app", "--only-mine")
    alone = flyte.works("get", "app", names[2])
    assert names[2] in alone
    assert names[1] not in alone
    flyte.works("update", "app", names[0], "--activate", "--wait")
    assert answer("app", "get", names[0])["state"] == "running"
    for name in names:
        flyte.works("delete", "app", name)
    assert not [app for app in answer("app", "ls")["apps"] if app["name"] in names]


COPIED = """
from pathlib import Path
import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment
from copied_words import WORD

app = FastAPI()

@app.get("/")
def found():
    return WORD, sorted(path.name for path in Path(__file__).parent.glob("copied*")), Path("copied.txt").exists()

image = flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn")
env = FastAPIAppEnvironment(name="command-copied", app=app, requires_auth=False, image=image)
"""


def test_what_is_copied_of_the_code(flyte: Warm) -> None:
    """``--copy-style``: the loaded modules, all files of the folder, or none."""
    give("commands/copied/copied.py", COPIED)
    give("commands/copied/copied_words.py", 'WORD = "milk"')
    give("commands/copied/copied.txt", "x")
    more = ("--root-dir", "copied", "copied/copied.py", "env")
    modules = ["copied.py", "copied_words.py"]
    for style, files in (("loaded_modules", modules), ("all", ["copied.py", "copied.txt", "copied_words.py"])):
        flyte.works("serve", "--copy-style", style, *more)
        found = json.loads(curl(answer("app", "get", "command-copied")["url"])[1])
        assert found == ["milk", files, style == "all"], style
    assert "Version must be set when copy_style is none" in flyte.refused("deploy", "--copy-style", "none", *more)
