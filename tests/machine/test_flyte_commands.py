"""Every command of Flyte's own, and every method of ``flyte.remote``, does what flyted-compat(7) says."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.compat.commands import COMMANDS, LOCAL, WORKS
from tests.compat.remote import METHODS
from tests.compat.remote import WORKS as METHOD_WORKS
from tests.machine.kit.companion_sdk import ABORTED, HOME, SHARE, Desk, environment_for, install
from tests.machine.kit.pypi_flyte import SDK
from tests.machine.kit.users import alice, by, forget_apps, forget_secrets, give, join_group

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
    forget_apps("command-app")
    forget_apps("hello-")
    forget_secrets("COMMAND_KEY")
    forget_secrets("REMOTE_KEY", scope=("-p", "default", "-d", "development"))


def prepare(desk: Desk, name: str) -> None:
    """Have what a command or method needs: an app that is served, and a secret that is there, or not."""
    if name in ("delete app", "get app", "update app") or name.startswith("App."):
        desk.works("flyte serve command_app.py env")
    if name == "create secret":
        forget_secrets("COMMAND_KEY")
    if name == "delete secret":
        by("alice", "flytectl", "secret", "create", "COMMAND_KEY", "-", typed="v")


@pytest.mark.parametrize("name", [name for name, each in COMMANDS.items() if each.tried is not None])
def test_a_command(desk: Desk, name: str) -> None:
    """It works, or says in one sentence why it does not; never a traceback."""
    command = COMMANDS[name]
    prepare(desk, name)
    words = [*name.removesuffix(" FILE").split(), *(f"'{word}'" for word in command.tried or ())]
    done = desk.run(f"flyte {' '.join(words)}")
    said = " ".join(done.stdout.replace("│", " ").split())
    assert "Traceback" not in said
    works = command.verdict in (WORKS, LOCAL) and "r1" not in (command.tried or ())
    if works:
        assert done.returncode in {0, *ABORTED}, said
    else:
        assert done.returncode in ({0, *ABORTED} if command.status == 0 else {1, 2}), said
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


@pytest.mark.parametrize("kind", sorted({name.partition(".")[0] for name in METHODS}))
def test_the_methods_of_a_class(desk: Desk, kind: str) -> None:
    """In the order of the table: what is created is deleted in the end."""
    rows = {name: each for name, each in METHODS.items() if name.partition(".")[0] == kind and each.tried}
    if not rows:
        pytest.skip("nothing of it asks a server")
    prepare(desk, f"{kind}.")
    give("commands/methods.txt", SCRIPT)
    give("commands/rows.json", json.dumps({name: each.tried for name, each in rows.items()}))
    found = json.loads(desk.works("python methods.txt <rows.json").splitlines()[-1])
    for name, each in rows.items():
        if each.verdict == METHOD_WORKS:
            assert found[name] == "", f"{name}: {found[name]}"
        else:
            assert found[name] != "", f"{name} works"
            assert each.said in found[name], f"{name}: {found[name]}"
