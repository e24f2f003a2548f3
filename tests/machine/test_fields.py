"""What a file asks for and what becomes of it, by both commands: honoured, said or refused; never silent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.contract.errors import NOT_HERE
from tests.machine.kit.companion_sdk import HOME, SHARE, Desk
from tests.machine.kit.environments import UV, environment_for, install
from tests.machine.kit.pypi_flyte import FOLDER, SDK, flyte, prepare, stock
from tests.machine.kit.pypi_flyte import refused as sdk_refused
from tests.machine.kit.users import (
    alice,
    answer,
    by,
    curl,
    forget_apps,
    forget_secrets,
    give,
    refused,
    until,
)

HEAD = """
import os
import flyte
import flyte.app
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
image = flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn")

@app.get("/")
def variables():
    return dict(os.environ)

"""
TOKENS = {"aws/token": "of-aws", "gcp/token": "of-gcp", "token": "of-none"}


@pytest.fixture(autouse=True)
def _prepared() -> Iterator[None]:
    """Each test makes the first revision of its apps: much is said of a new one only."""
    prepare()
    forget_apps("field-")
    forget_secrets(*TOKENS)
    yield
    forget_apps("field-")
    forget_secrets(*TOKENS)


@pytest.fixture(scope="module")
def desk() -> Desk:
    """The stock SDK's environment once more, with the companion beside it."""
    place = HOME / "fields-env"
    install(environment_for(place), f"flyte=={SDK}", "fastapi", "uvicorn")
    install(place, "--no-deps", *map(str, SHARE.glob("flyted-*.whl")))
    return Desk(FOLDER, place)


def write(name: str, fields: str = "", more: str = "") -> str:
    """An app whose answer is its environment; the file's name."""
    call = f'env = FastAPIAppEnvironment(name="{name}", app=app, image=image, requires_auth=False, {fields})\n'
    return give(f"stock/{name.replace('-', '_')}.py", HEAD + call + more)


def variables(name: str) -> dict[str, str]:
    """What the app sees."""
    status, body = curl(answer("app", "get", name)["url"])
    assert status == 200, body
    found: dict[str, str] = json.loads(body)
    return found


def test_two_groups_have_two_secrets_of_one_key() -> None:
    """``Secret(group=)`` is a part of the name, by `flyte create secret` too; a secret without group is a third."""
    groups = ", ".join(f'flyte.Secret(key="token", group="{group}")' for group in ("aws", "gcp"))
    file = write("field-groups", f"secrets=[{groups}, flyte.Secret(key='token')]")
    alice("flytectl", "secret", "create", "token", "-", typed=TOKENS["token"])
    said = refused("flytectl", "serve", file, status=4)
    assert "flytectl secret create aws/token; flytectl secret create gcp/token" in said
    alice("flytectl", "secret", "create", "aws/token", "-", typed=TOKENS["aws/token"])
    flyte("create", "secret", "gcp/token", "--value", TOKENS["gcp/token"])
    alice("flytectl", "serve", file)
    seen = variables("field-groups")
    assert [seen[name] for name in ("AWS_TOKEN", "GCP_TOKEN", "TOKEN")] == list(TOKENS.values())
    assert set(TOKENS) <= {secret["key"] for secret in answer("secret", "ls")["secrets"]}
    assert "aws/token" in flyte("get", "secret", "aws/token").stdout


def test_what_an_app_does_without_is_said() -> None:
    """At serve, and afterwards wherever somebody looks; the app runs."""
    fields = (
        "scaling=flyte.app.Scaling(replicas=(0, 1), metric=flyte.app.Scaling.Concurrency(10)), "
        "resources=flyte.Resources(cpu=640, memory='90000Gi')"
    )
    said = alice("flytectl", "serve", write("field-much", fields)).stderr
    for words in (
        "scaling.metric=Concurrency",
        "memory=87.9 TiB is more",
        "cpu=640 is",
    ):
        assert words in said
    assert len(answer("app", "get", "field-much")["unmet"]) == 1
    assert "Not done" in alice("flytectl", "app", "get", "field-much").stdout
    assert variables("field-much")


TASKS = """
work = flyte.TaskEnvironment(name="field-work", image=image)

@work.task
async def add(a: int) -> int:
    return a

"""
BESIDE = "task field-work.add"


def with_tasks(name: str) -> str:
    """An app that depends on tasks; the file's name, from alice's home."""
    file = write(name, "depends_on=[work]")
    path = Path("/home/alice", file)
    path.write_text(path.read_text().replace("env = ", TASKS + "env = "))
    return file


def test_apps_are_served_beside_tasks_that_are_named(desk: Desk) -> None:
    """By flytectl, by the companion and, with an error for the tasks, by the stock command: the app answers."""
    said = alice("flytectl", "serve", with_tasks("field-beside")).stderr
    assert f"note: {BESIDE} is not deployed: {NOT_HERE}" in said
    assert variables("field-beside")
    for command in ("deploy", "serve"):
        name = f"field-{command}"
        said = desk.works(f"flyte {command} {with_tasks(name).removeprefix('stock/')} env")
        assert said.count(f"{BESIDE} is not deployed: {NOT_HERE}") == 1
        assert variables(name)
    file = with_tasks("field-stock").removeprefix("stock/")
    assert f"task 'field-work.add' was not deployed: {NOT_HERE}" in sdk_refused("deploy", file, "env")
    until(lambda: by("alice", "flytectl", "app", "get", "field-stock").returncode == 0)
    until(lambda: answer("app", "get", "field-stock")["state"] == "running")


def test_tasks_alone_are_refused_at_once(desk: Desk) -> None:
    """Each command, with one sentence and no image built."""
    file = give("stock/field_tasks.py", HEAD + TASKS)
    assert NOT_HERE in refused("flytectl", "serve", file, status=3)
    for command in ("flyte deploy field_tasks.py work", "flyte run field_tasks.py add --a 1"):
        said = desk.fails(command)
        assert f"only {BESIDE}" in said
        assert "Building image" not in said
    for words in (("get", "run"), ("get", "action", "r1"), ("get", "trigger")):
        assert "Not implemented" not in sdk_refused(*words)
    assert f"is not supported: {NOT_HERE}" in sdk_refused("get", "run")


def test_another_apps_address_is_known() -> None:
    """By both commands: the app may call what it depends on, and is told where that is."""
    file = write("field-back")
    path = Path("/home/alice", file)
    path.write_text(
        path.read_text()
        + "\nfront = FastAPIAppEnvironment(name='field-front', app=FastAPI(), image=image, depends_on=[env],"
        + " requires_auth=False)\n@front.app.get('/ask')\ndef ask():\n    return env.endpoint\n"
    )
    alice("flytectl", "serve", file)
    url = answer("app", "get", "field-front")["url"]
    assert curl(f"{url}/ask") == (200, '"http://field-back.apps.internal"')
    flyte("serve", "field_back.py", "front")
    assert answer("app", "get", "field-front")["calls"] == ["field-back"]
    assert curl(f"{url}/ask") == (200, '"http://field-back.apps.internal"')


def test_what_may_fail_in_the_code_is_said_when_it_is_served() -> None:
    """No request has to find it out: by flytectl, and by Flyte's own command after the app is there."""
    file = write("field-calls")
    path = Path("/home/alice", file)
    path.write_text(path.read_text() + "\n@app.get('/run')\ndef run():\n    return flyte.run(print)\n")
    note = "its code calls flyte.run, which will fail"
    assert f"note: {note}" in alice("flytectl", "serve", file).stderr
    assert note in answer("app", "get", "field-calls")["unmet"][0]


def test_variables_of_a_serve_reach_the_app(desk: Desk) -> None:
    """``flyte serve -e`` and ``with_servecontext(env_vars=, project=)``: the SDK takes them and sends none."""
    write("field-given", "env_vars={'OWN': 'file', 'KEPT': 'file'}")
    desk.works("flyte serve -e OWN=given -e MORE=1 field_given.py env")
    seen = variables("field-given")
    assert [seen[name] for name in ("OWN", "KEPT", "MORE")] == ["given", "file", "1"]
    script = (
        "import flyte, logging; from field_given import env; flyte.init_from_config();"
        "context = flyte.with_servecontext(env_vars={'MORE': '2'}, log_level=logging.DEBUG, project='field-p2');"
        "print(context.serve(env).name, env.env_vars)"
    )
    assert "field-given {'OWN': 'file', 'KEPT': 'file'}" in desk.works(f'python -c "{script}"')
    app = answer("app", "get", "field-given", "-p", "field-p2")
    seen = json.loads(curl(app["url"])[1])
    assert [seen[name] for name in ("OWN", "MORE", "LOG_LEVEL")] == ["file", "2", "10"]
    alice("flytectl", "app", "delete", "--yes", "--data", "field-given", "-p", "field-p2")


def test_a_script_after_the_command_changes_nothing(desk: Desk) -> None:
    """The same file by `flyte serve` and as a script is one revision."""
    script = "\nif __name__ == '__main__':\n    flyte.init_from_config()\n    flyte.deploy(env)\n"
    write("field-again", more=script)
    desk.works("flyte serve field_again.py env")
    desk.works("python field_again.py")
    assert answer("app", "get", "field-again")["revision"] == 1


def test_what_the_server_refuses_is_no_traceback(desk: Desk) -> None:
    """The stock `flyte update project` shows its own frames."""
    assert "with its first app or secret" in desk.fails("flyte update project field-none --archive")
    said = desk.fails("flyte update project default --archive")
    assert "nothing to change or archive" in said
    assert "Traceback" not in said


def test_the_proxy_logs_in_with_the_command_of_the_configuration(desk: Desk) -> None:
    """The SDK drops it: "Command cannot be empty for command authenticator"."""
    file = write("field-locked")
    path = Path("/home/alice", file)
    path.write_text(path.read_text().replace("requires_auth=False", "requires_auth=True"))
    alice("flytectl", "serve", file)
    desk.run(f"{UV} pip uninstall --quiet --python {desk.environment} aiohttp")
    assert "pip install aiohttp" in desk.fails("flyte proxy app field-locked --port 18600")
    install(desk.environment, "aiohttp")
    proxy = "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt timeout 180 flyte proxy app field-locked --port 18600"
    wait = "curl -sS --retry 120 --retry-delay 1 --retry-connrefused http://127.0.0.1:18600/"
    said = desk.run(f"{proxy} & {wait}; kill %1").stdout
    assert "FLYTE_INTERNAL_EXECUTION_PROJECT" in said, said


def test_a_cluster_pool_and_an_empty_project_are_not_taken_in_silence() -> None:
    """Their commands ended with 0 and had done something else, or nothing."""
    pool = stock("flyte", "create", "secret", "FIELD_POOL", "--value", "v", "--cluster-pool", "gpu")
    assert pool.returncode != 0
    assert "no cluster pool 'gpu'" in pool.stdout + pool.stderr
    project = stock("flyte", "create", "project", "--id", "field-empty", "--name", "Empty")
    assert project.returncode != 0
    assert "with its first app or secret" in project.stdout + project.stderr
    assert "FIELD_POOL" not in json.dumps(answer("secret", "ls", "--all"))
